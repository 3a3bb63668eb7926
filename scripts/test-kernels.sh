#!/usr/bin/env bash
# Holds the integer kernels of other processors against the plain reference, to the bit: on this machine those it has, and
# the ones for 64-bit ARM under qemu's user-mode emulation, with and without dot products.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/edge-targets.sh

edge_target arm64
scripts/setup.sh packages cross-arm64 emulation
cross_environment
tests=(-p salad-shared -p salad-edge --lib -- integer dot)
cargo test --locked --release "${tests[@]}"
for processor in cortex-a53 cortex-a76; do
  echo "test-kernels: $processor"
  CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER="qemu-aarch64-static -cpu $processor -L /usr/$tools" \
    cargo test --locked --profile dist --target "$target" "${tests[@]}"
done
