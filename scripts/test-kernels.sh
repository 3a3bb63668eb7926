#!/usr/bin/env bash
# Holds the integer kernels against the plain reference, to the bit:
#
# - those that this machine has, with AddressSanitizer watching what they read and write. The compiler that is installed has it,
#   but calls it unstable; tests/kernels has the kernels by themselves, since all that runs has to be built with it;
# - those for 64-bit ARM, under qemu's user-mode emulation, with and without dot products; there whole networks are held against
#   tract too, as `make test` does for this machine.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/edge-targets.sh

edge_target arm64
scripts/setup.sh packages cross-arm64 emulation
host=$(rustc -vV | sed -n 's/^host: //p')
echo "test-kernels: $host, with AddressSanitizer"
# With --target the flags leave build scripts alone.
RUSTC_BOOTSTRAP=1 RUSTFLAGS=-Zsanitizer=address cargo test --locked --release --manifest-path tests/kernels/Cargo.toml \
  --target-dir target/kernels --target "$host" --lib
cross_environment
for processor in cortex-a53 cortex-a76; do
  echo "test-kernels: $processor"
  CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER="qemu-aarch64-static -cpu $processor -L /usr/$tools" \
    cargo test --locked --profile dist --target "$target" -p salad-shared -p salad-edge --lib -- integer dot
done
