#!/usr/bin/env bash
# Builds salad-edge for devices: small, stripped (profile `dist` in Cargo.toml), with Debian's cross compilers.
#   scripts/edge-cross.sh ARCH [EXAMPLE ...]      arm64, armhf or amd64; the program, or these examples; ends with path and size
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/edge-targets.sh

arch=${1:?usage: $0 arm64|armhf|amd64}
edge_target "$arch"
scripts/setup.sh packages "cross-$arch"

cross_environment
what=(--bin salad-edge) built=(salad-edge)
if [ $# -gt 1 ]; then
  examples=("${@:2}")
  what=("${examples[@]/#/--example=}") built=("${examples[@]/#/examples/}")
fi
cargo build --locked --profile dist --target "$target" -p salad-edge "${what[@]}"
stat -c '%n: %s bytes' "${built[@]/#/target/$target/dist/}"
