#!/usr/bin/env bash
# Makes target/python, a virtual environment with onnx and onnxruntime, pinned by hash. Tests only: it is how they hold
# the ONNX that the trainer writes against the reference runtime. Nothing outside target/ is touched.
set -euo pipefail
cd "$(dirname "$0")/.."

lock=scripts/python-requirements.lock
python=$(python3 -c 'import sys; print("%d.%d" % sys.version_info[:2])')
stamp="$python $(sha256sum <"$lock" | cut -c1-16)"
if [ "$(cat target/python/STAMP 2>/dev/null)" = "$stamp" ]; then exit 0; fi

machine=$(uname -m)
case "$machine $python" in
  "x86_64 3.9" | "x86_64 3.10" | "x86_64 3.11" | "x86_64 3.12" | "x86_64 3.13" | "x86_64 3.14") ;;
  *) echo "setup-python: $lock has wheels for CPython 3.9 to 3.14 on x86_64, not for $python on $machine" >&2; exit 1 ;;
esac
echo "setup-python: installing onnx and onnxruntime under target/python (a download of about 60 MB)"
rm -rf target/python
mkdir -p target
trap 'rm -rf target/python' EXIT
python3 -m venv target/python ||
  { echo "setup-python: python3 has no venv module: apt-get install python3-venv" >&2; exit 1; }
target/python/bin/python -m pip install -q --disable-pip-version-check --no-deps --require-hashes --only-binary=:all: -r "$lock"
echo "$stamp" >target/python/STAMP
trap - EXIT
echo "setup-python: done"
