#!/usr/bin/env bash
# cargo-deny over deny.toml: licences, banned crates, sources; and security advisories where their database can be had.
# The first run builds cargo-deny under target/tools, without optimisation because it runs for a second.
set -euo pipefail
cd "$(dirname "$0")/.."

version=0.20.2
tools=$PWD/target/tools
deny=$tools/bin/cargo-deny
if [ "$("$deny" --version 2>/dev/null)" != "cargo-deny $version" ]; then
  echo "check-licences: building cargo-deny $version under target/tools (some minutes, once)"
  CARGO_PROFILE_RELEASE_OPT_LEVEL=0 CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=256 \
    CARGO_TARGET_DIR=$tools/build cargo install --quiet --locked --force --root "$tools" "cargo-deny@$version"
  rm -rf "$tools/build"
fi

"$deny" --locked check --hide-inclusion-graph licenses bans sources
if timeout 120 "$deny" --locked fetch db 2>"$tools/advisories.log"; then
  "$deny" --locked check --disable-fetch advisories
else
  echo "check-licences: advisories were NOT checked: their database cannot be fetched from here"
fi
