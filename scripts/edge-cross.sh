#!/usr/bin/env bash
# Builds salad-edge for devices: small, stripped (profile `dist` in Cargo.toml), with Debian's cross compilers.
#   scripts/edge-cross.sh ARCH [--example NAME]      arm64, armhf or amd64; ends with the program's path and size
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/edge-targets.sh

arch=${1:?usage: $0 arm64|armhf|amd64}
edge_target "$arch"
scripts/setup.sh packages "cross-$arch"

cross_environment
if [ "${2:-}" = --example ]; then
  what=(--example "${3:?"usage: $0 ARCH [--example NAME]"}") built=examples/$3
else
  what=(--bin salad-edge) built=salad-edge
fi
cargo build --locked --profile dist --target "$target" -p salad-edge "${what[@]}"
stat -c '%n: %s bytes' "target/$target/dist/$built"
