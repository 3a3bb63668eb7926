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

echo "setup-libtorch: installing the $kind set under target/libtorch (a download of 0.5 GB for cpu, 2.5 GB for cuda)"
mkdir -p target
tmp=$(mktemp -d target/libtorch.XXXXXX)
trap 'rm -rf "$tmp"' EXIT
platforms=()
for p in manylinux_2_28 manylinux_2_27 manylinux_2_25 manylinux_2_18 manylinux_2_17 manylinux2014 manylinux_2_12 manylinux2010; do
  platforms+=(--platform "${p}_x86_64")
done
python3 -m pip install -q --disable-pip-version-check --root-user-action=ignore --no-deps --no-compile --require-hashes \
  --only-binary=:all: --implementation cp --python-version 3.12 --abi cp312 --abi none "${platforms[@]}" \
  --target "$tmp" -r "$lock"

if [ "$kind" = cpu ]; then
  # PyPI's wheel is a CUDA build: drop those libraries and put a stub in place of the one that would load them.
  (
    cd "$tmp/torch/lib"
    rm -f libtorch_cuda.so libtorch_cuda_linalg.so libc10_cuda.so libtorch_nvshmem.so libcaffe2_nvrtc.so \
      libtorch_python.so libtorch.so libtorch_global_deps.so libshm.so
    gcc -shared -fPIC -x c /dev/null -o libtorch.so -Wl,-soname,libtorch.so -Wl,--no-as-needed -L. \
      -l:libtorch_cpu.so -Wl,--as-needed -Wl,--disable-new-dtags,-rpath,'$ORIGIN' -Wl,--allow-shlib-undefined
  )
fi
find "$tmp/torch" -mindepth 1 -maxdepth 1 ! -name lib ! -name include ! -name version.py -exec rm -rf {} +
rm -rf "$tmp/bin" "$tmp/functorch" "$tmp/torchgen"
echo "$stamp" >"$tmp/STAMP"
rm -rf target/libtorch
mv "$tmp" target/libtorch
trap - EXIT
echo "setup-libtorch: done, $(du -sh target/libtorch | cut -f1)"
