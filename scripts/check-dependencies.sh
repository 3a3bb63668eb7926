#!/usr/bin/env bash
# The rules of ARCHITECTURE.md that the compiler does not know: who may depend on whom, and how files look.
set -euo pipefail
cd "$(dirname "$0")/.."

failures=0
refuse() { echo "check-dependencies: $*" >&2; failures=$((failures + 1)); }

# must_not CRATE PATTERN WHY [EDGES]: no package in CRATE's tree, on any platform, has a name that matches PATTERN.
must_not() {
  local tree found
  tree=$(cargo tree --locked --quiet -p "$1" -e "${4:-normal,build,dev}" --target all --prefix none -f '{p}') ||
    { refuse "cargo tree -p $1 failed"; return; }
  found=$(awk '{print $1}' <<<"$tree" | sort -u | grep -Ex "$2" | tr '\n' ' ') || true
  [ -z "$found" ] || refuse "$1 depends on $found: $3"
}

must_not salad-shared 'tokio|reqwest|hyper|tch|torch-sys|tract.*|salad-(edge|trainer|tests)' \
  'shared code is pure: no async, no network, no neural-network runtime'
must_not salad-edge 'tch|torch-sys|salad-(trainer|tests)' 'an edge device has no libtorch'
must_not salad-trainer 'tract.*|salad-(edge|tests)' 'the trainer writes ONNX and does not run it'

while read -r file; do
  refuse "$file: only shared/src/bundle and shared/src/atomic.rs touch files, and nothing there opens sockets"
done < <(find shared/src -name '*.rs' ! -path 'shared/src/bundle*' ! -name atomic.rs -print0 |
  xargs -0 grep -lE 'std::(fs|net|process|thread)' || true)

while read -r file; do
  [ "$(head -c 2 "$file")" != '#!' ] || refuse "$file: is a program, and nobody may run it: chmod +x, and git add --chmod=+x"
done < <(find scripts shared edge trainer tests fuzz -type f ! -perm -u+x \( -name '*.py' -o -name '*.sh' \) -not -path '*/target/*')

while read -r file; do
  [ "$(head -c 3 "$file")" = '//!' ] || refuse "$file: does not open with a //! comment that says what it is for"
done < <(find shared edge trainer tests fuzz -name '*.rs' -not -path '*/target/*')

while read -r lines file; do
  [ "$lines" -le 600 ] || refuse "$file: $lines lines, and at most 600 are allowed: split it"
done < <(find shared edge trainer tests fuzz scripts \( -name '*.rs' -o -name '*.py' -o -name '*.sh' \) \
  -not -path '*/target/*' -print0 | xargs -0 wc -l | grep -v ' total$')

[ "$failures" = 0 ] || exit 1
echo "check-dependencies: all rules hold"
