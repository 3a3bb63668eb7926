#!/usr/bin/env bash
# Fuzzes the reader of bundles and that of pictures with libFuzzer, half the time each. Needs a stable Rust and g++ only: coverage instrumentation is a plain LLVM pass.
#   scripts/fuzz.sh [SECONDS]
# New inputs are kept under target/fuzz/corpus; a finding is written to target/fuzz/artifacts and fails the run.
set -euo pipefail
cd "$(dirname "$0")/.."

seconds=${1:-60}
host=$(rustc -vV | sed -n 's/^host: //p')
out=target/fuzz
mkdir -p $out/artifacts

# With --target the flags leave build scripts alone, which would not link with them.
instrument="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
-Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares -Cdebug-assertions -Coverflow-checks \
--cfg fuzzing"
RUSTFLAGS=$instrument cargo build --locked --release --manifest-path fuzz/Cargo.toml --target-dir $out \
  --target "$host"
# fuzz NAME SECONDS FLAGS...: runs one target; its corpus stands in its own folder.
fuzz() {
  local name=$1 seconds=$2
  shift 2
  echo "fuzz: $name for $seconds s"
  mkdir -p "$out/corpus/$name"
  "$out/$host/release/$name" "$out/corpus/$name" "$@" -max_total_time="$seconds" -rss_limit_mb=2048 -timeout=10 \
    -artifact_prefix=$out/artifacts/ -print_final_stats=1
}
mkdir -p $out/seeds
SEEDS=$out/seeds fuzz bundle $((seconds / 2)) $out/seeds -max_len=65536 -dict=fuzz/bundle.dict
fuzz picture $((seconds - seconds / 2)) shared/tests/fixtures/jpeg -max_len=16384
echo "fuzz: no finding"
