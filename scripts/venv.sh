# Sourced by the scripts that need a Python virtual environment pinned by hash. Expects to stand in the repository's root.

# venv DIRECTORY LOCK OLDEST NEWEST WHAT [PIP-OPTION ...]: makes DIRECTORY unless it is there for this Python and this lock
# file, whose wheels are for CPython 3.OLDEST to 3.NEWEST on x86_64. Runs the function `after_install`, where there is one,
# before it counts as done; a directory that is not done is removed.
venv() {
  local directory=$1 lock=$2 oldest=$3 newest=$4 what=$5 script=${0##*/} python stamp
  shift 5
  python=$(python3 -c 'import sys; print("%d.%d" % sys.version_info[:2])')
  stamp="$python $(sha256sum <"$lock" | cut -c1-16)"
  if [ "$(cat "$directory/STAMP" 2>/dev/null)" = "$stamp" ]; then return; fi
  local minor=${python#3.}
  if [ "$(uname -m)" != x86_64 ] || [ "$minor" -lt "$oldest" ] || [ "$minor" -gt "$newest" ]; then
    echo "$script: $lock has wheels for CPython 3.$oldest to 3.$newest on x86_64, not for $python on $(uname -m)" >&2
    exit 1
  fi
  echo "$script: installing $what under $directory"
  rm -rf "$directory"
  mkdir -p "$(dirname "$directory")"
  # shellcheck disable=SC2064  # the directory as it is now
  trap "rm -rf '$directory'" EXIT
  python3 -m venv "$directory" ||
    { echo "$script: python3 has no venv module: apt-get install python3-venv" >&2; exit 1; }
  "$directory/bin/python" -m pip install -q --disable-pip-version-check --no-deps --require-hashes --only-binary=:all: "$@" \
    -r "$lock"
  if declare -F after_install >/dev/null; then after_install; fi
  echo "$stamp" >"$directory/STAMP"
  trap - EXIT
  echo "$script: done"
}
