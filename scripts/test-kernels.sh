#!/usr/bin/env bash
# Holds the integer kernels against the plain reference, to the bit: those that this machine has, with AddressSanitizer watching
# what they read and write (the compiler that is installed has it, but calls it unstable), and under qemu's user-mode emulation
# those of an x86-64 of 2008, of one with AVX2, and of ARM of 64 bits with and without dot products, and of 32 bits. tests/kernels
# has the kernels by themselves, so that nothing else is built for all of that.
#   scripts/test-kernels.sh [--miri]      --miri: besides, the portable ones under Miri, which takes three minutes and
#                                         rustup toolchain install nightly --component miri --component rust-src
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/edge-targets.sh

if [ "${1:-}" = --miri ]; then
  echo "test-kernels: Miri"
  cargo +nightly miri test --locked --manifest-path tests/kernels/Cargo.toml --target-dir target/miri --lib
fi
scripts/setup.sh packages cross-arm64 cross-armhf emulation
host=$(rustc -vV | sed -n 's/^host: //p')
tests=(cargo test --locked --release --manifest-path tests/kernels/Cargo.toml --target-dir target/kernels --lib)
echo "test-kernels: $host, with AddressSanitizer"
# With --target the flags leave build scripts alone.
RUSTC_BOOTSTRAP=1 RUSTFLAGS=-Zsanitizer=address "${tests[@]}" --target "$host"
if [ "$host" = x86_64-unknown-linux-gnu ]; then
  for processor in Nehalem max; do
    echo "test-kernels: $processor"
    CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER="qemu-x86_64-static -cpu $processor" "${tests[@]}" --target "$host"
  done
fi
for kind in arm64:aarch64:cortex-a53 arm64:aarch64:cortex-a76 armhf:arm:cortex-a7; do
  IFS=: read -r arch emulator processor <<<"$kind"
  echo "test-kernels: $processor"
  edge_target "$arch"
  cross_environment
  export "CARGO_TARGET_${upper}_RUNNER=qemu-$emulator-static -cpu $processor -L /usr/$tools"
  "${tests[@]}" --target "$target"
done
