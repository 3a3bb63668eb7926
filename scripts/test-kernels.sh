#!/usr/bin/env bash
# Holds the integer kernels of other processors against the plain reference, to the bit: on this machine those it has, and
# the ones for ARM under qemu's user-mode emulation: 64 bits with and without dot products, and 32 bits.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/edge-targets.sh

scripts/setup.sh packages cross-arm64 cross-armhf emulation
tests=(-p salad-shared -p salad-edge --lib -- integer dot)
cargo test --locked --release "${tests[@]}"
for kind in arm64:aarch64:cortex-a53 arm64:aarch64:cortex-a76 armhf:arm:cortex-a7; do
  IFS=: read -r arch emulator processor <<<"$kind"
  echo "test-kernels: $processor"
  edge_target "$arch"
  cross_environment
  export "CARGO_TARGET_${upper}_RUNNER=qemu-$emulator-static -cpu $processor -L /usr/$tools"
  cargo test --locked --profile dist --target "$target" "${tests[@]}"
done
