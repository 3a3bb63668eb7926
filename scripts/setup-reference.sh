#!/usr/bin/env bash
# Makes target/reference, a virtual environment with PyTorch for the CPU, pinned by hash: what tests/reference runs in.
# Nothing outside target/ is touched. libtorch's own download (scripts/setup-libtorch.sh) cannot serve, since its Python half
# is for one release of Python.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/venv.sh

# PyPI's wheel is a CUDA build that names 2 GB of NVIDIA's libraries, of which a CPU calls none. Empty ones stand in for
# them; the functions that are not there are looked for when they are called, which is never.
after_install() {
  local packages name
  packages=$(target/reference/bin/python -c 'import sysconfig; print(sysconfig.get_paths()["purelib"])')
  for name in libcublas.so.13 libcublasLt.so.13 libcudnn.so.9 libcufft.so.12 libcufile.so.0 libcurand.so.10 \
    libcusolver.so.12 libcusparse.so.12 libcusparseLt.so.0 libnccl.so.2 libnvshmem_host.so.3; do
    gcc -shared -fPIC -x c /dev/null -o "$packages/torch/lib/$name" -Wl,-soname,"$name"
  done
  echo 'import os, sys; sys.setdlopenflags(os.RTLD_LAZY)' >"$packages/resolve_lazily.pth"
  target/reference/bin/python -c 'import torch; assert torch.zeros(2).sum() == 0'
}

venv target/reference tests/reference/requirements.lock 10 13 "PyTorch (a download of 0.55 GB)" --no-compile
