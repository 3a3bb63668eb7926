#!/usr/bin/env bash
# Installs libtorch under target/libtorch from PyPI's wheels, pinned by hash; nothing outside target/ is touched.
#   scripts/setup-libtorch.sh [cpu|cuda]
# The wheel for Python 3.12 is taken whatever Python the host has: only its C++ libraries and headers are used.
set -euo pipefail
cd "$(dirname "$0")/.."

kind=${1:-cpu}
lock=scripts/libtorch-$kind.lock
[ -f "$lock" ] || { echo "setup-libtorch: unknown kind '$kind': use cpu or cuda" >&2; exit 2; }
stamp="$kind $(sha256sum <"$lock" | cut -c1-16)"
if [ "$(cat target/libtorch/STAMP 2>/dev/null)" = "$stamp" ]; then exit 0; fi
if [ "$(uname -sm)" != "Linux x86_64" ]; then
  echo "setup-libtorch: only x86-64 Linux is pinned; set LIBTORCH to a libtorch 2.11.0 of your own" >&2
  exit 2
fi

echo "setup-libtorch: installing the $kind set under target/libtorch (a download of 0.5 GB for cpu, 2.5 GB for cuda)"
mkdir -p target
tmp=$(mktemp -d target/libtorch.XXXXXX)
trap 'rm -rf "$tmp"' EXIT
# Debian's python3 comes without pip, and refuses to install beside its own packages: a venv has neither trouble.
python3 -m venv "$tmp/venv"
platforms=()
for p in manylinux_2_28 manylinux_2_27 manylinux_2_25 manylinux_2_18 manylinux_2_17 manylinux2014 manylinux_2_12 manylinux2010; do
  platforms+=(--platform "${p}_x86_64")
done
"$tmp/venv/bin/python" -m pip install -q --disable-pip-version-check --no-deps --no-compile --require-hashes \
  --only-binary=:all: --implementation cp --python-version 3.12 --abi cp312 --abi none "${platforms[@]}" \
  --target "$tmp/set" -r "$lock"

if [ "$kind" = cpu ]; then
  # PyPI's wheel is a CUDA build: drop those libraries and put a stub in place of the one that would load them.
  (
    cd "$tmp/set/torch/lib"
    rm -f libtorch_cuda.so libtorch_cuda_linalg.so libc10_cuda.so libtorch_nvshmem.so libcaffe2_nvrtc.so \
      libtorch_python.so libtorch.so libtorch_global_deps.so libshm.so
    gcc -shared -fPIC -x c /dev/null -o libtorch.so -Wl,-soname,libtorch.so -Wl,--no-as-needed -L. \
      -l:libtorch_cpu.so -Wl,--as-needed -Wl,--disable-new-dtags,-rpath,'$ORIGIN' -Wl,--allow-shlib-undefined
  )
fi
find "$tmp/set/torch" -mindepth 1 -maxdepth 1 ! -name lib ! -name include ! -name version.py -exec rm -rf {} +
rm -rf "$tmp/set/bin" "$tmp/set/functorch" "$tmp/set/torchgen"
echo "$stamp" >"$tmp/set/STAMP"
rm -rf target/libtorch
mv "$tmp/set" target/libtorch
echo "setup-libtorch: done, $(du -sh target/libtorch | cut -f1)"
