#!/usr/bin/env bash
# Builds salad-edge for devices: small, stripped (profile `dist` in Cargo.toml), with Debian's cross compilers.
#   scripts/edge-cross.sh ARCH      arm64, armhf or amd64; ends with the program's path and size
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/edge-targets.sh

arch=${1:?usage: $0 arm64|armhf|amd64}
edge_target "$arch"
scripts/setup.sh packages "cross-$arch"

cross_environment
cargo build --locked --profile dist --target "$target" -p salad-edge --bin salad-edge
stat -c '%n: %s bytes' "target/$target/dist/salad-edge"
