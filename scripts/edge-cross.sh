#!/usr/bin/env bash
# Builds salad-edge for devices: small, stripped (profile `dist` in Cargo.toml), with Debian's cross compilers.
#   scripts/edge-cross.sh ARCH      arm64, armhf or amd64; ends with the program's path and size
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/edge-targets.sh

arch=${1:?usage: $0 arm64|armhf|amd64}
edge_target "$arch"
scripts/setup.sh packages "cross-$arch"

# Not for this machine's own kind: build scripts would get the linker too, and cargo would build all anew whenever the
# architecture changes.
if [ "$target" != "$(rustc -vV | sed -n 's/^host: //p')" ]; then
  upper=${target^^} upper=${upper//-/_} lower=${target//-/_}
  export "CARGO_TARGET_${upper}_LINKER=$tools-gcc" "CC_$lower=$tools-gcc" "AR_$lower=$tools-ar"
  # bindgen reads the kernel's camera interface in the device's C headers, which differ by word size.
  export "BINDGEN_EXTRA_CLANG_ARGS_$lower=--sysroot=/usr/$tools -I/usr/$tools/include"
fi

cargo build --locked --profile dist --target "$target" -p salad-edge --bin salad-edge
stat -c '%n: %s bytes' "target/$target/dist/salad-edge"
