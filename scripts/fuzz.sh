#!/usr/bin/env bash
# Fuzzes the bundle reader with libFuzzer. Needs a stable Rust and g++ only: coverage instrumentation is a plain LLVM pass.
#   scripts/fuzz.sh [SECONDS]
# New inputs are kept under target/fuzz/corpus; a finding is written to target/fuzz/artifacts and fails the run.
set -euo pipefail
cd "$(dirname "$0")/.."

seconds=${1:-60}
host=$(rustc -vV | sed -n 's/^host: //p')
out=target/fuzz
mkdir -p $out/corpus $out/artifacts

# With --target the flags leave build scripts alone, which would not link with them.
instrument="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
-Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares -Cdebug-assertions -Coverflow-checks \
--cfg fuzzing"
RUSTFLAGS=$instrument cargo build --locked --release --manifest-path fuzz/Cargo.toml --target-dir $out \
  --target "$host"
echo "fuzz: the bundle reader for $seconds s"
mkdir -p $out/seeds
SEEDS=$out/seeds "$out/$host/release/bundle" $out/corpus $out/seeds -max_total_time="$seconds" -max_len=65536 -rss_limit_mb=2048 \
  -timeout=10 -dict=fuzz/bundle.dict -artifact_prefix=$out/artifacts/ -print_final_stats=1
echo "fuzz: no finding"
