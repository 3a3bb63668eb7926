#!/usr/bin/env bash
# Makes target/reference, a virtual environment with PyTorch for the CPU, pinned by hash: what tests/reference runs in.
# Nothing outside target/ is touched. A download of 0.55 GB; libtorch's own (scripts/setup-libtorch.sh) cannot serve, since
# its Python half is for one release of Python.
set -euo pipefail
cd "$(dirname "$0")/.."

lock=tests/reference/requirements.lock
python=$(python3 -c 'import sys; print("%d.%d" % sys.version_info[:2])')
stamp="$python $(sha256sum <"$lock" | cut -c1-16)"
if [ "$(cat target/reference/STAMP 2>/dev/null)" = "$stamp" ]; then exit 0; fi

machine=$(uname -m)
case "$machine $python" in
  "x86_64 3.10" | "x86_64 3.11" | "x86_64 3.12" | "x86_64 3.13") ;;
  *) echo "setup-reference: $lock has wheels for CPython 3.10 to 3.13 on x86_64, not for $python on $machine" >&2; exit 1 ;;
esac
echo "setup-reference: installing PyTorch under target/reference (a download of 0.55 GB)"
rm -rf target/reference
mkdir -p target
trap 'rm -rf target/reference' EXIT
python3 -m venv target/reference ||
  { echo "setup-reference: python3 has no venv module: apt-get install python3-venv" >&2; exit 1; }
target/reference/bin/python -m pip install -q --disable-pip-version-check --no-deps --no-compile --require-hashes \
  --only-binary=:all: -r "$lock"

# PyPI's wheel is a CUDA build that names 2 GB of NVIDIA's libraries, of which a CPU calls none. Empty ones stand in for
# them; the functions that are not there are looked for when they are called, which is never.
packages=$(target/reference/bin/python -c 'import sysconfig; print(sysconfig.get_paths()["purelib"])')
for name in libcublas.so.13 libcublasLt.so.13 libcudnn.so.9 libcufft.so.12 libcufile.so.0 libcurand.so.10 libcusolver.so.12 \
  libcusparse.so.12 libcusparseLt.so.0 libnccl.so.2 libnvshmem_host.so.3; do
  gcc -shared -fPIC -x c /dev/null -o "$packages/torch/lib/$name" -Wl,-soname,"$name"
done
echo 'import os, sys; sys.setdlopenflags(os.RTLD_LAZY)' >"$packages/resolve_lazily.pth"
target/reference/bin/python -c 'import torch; assert torch.zeros(2).sum() == 0'
echo "$stamp" >target/reference/STAMP
trap - EXIT
echo "setup-reference: done, $(du -sh target/reference | cut -f1)"
