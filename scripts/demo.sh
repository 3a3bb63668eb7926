#!/usr/bin/env bash
# The whole chain in one go: pictures, training, report, bundle, and alerts from the edge. Called by `make demo`.
#   scripts/demo.sh            a rendered conveyor, whose truth is known
#   scripts/demo.sh FOLDER     your pictures: a folder of normal ones, or train/good, test/... below it
# Everything lands under target/demo.
set -euo pipefail
cd "$(dirname "$0")/.."

data=${1:-}
out=target/demo
say() { echo; echo "demo: $*"; }
timed() {
  local start=$SECONDS
  "$@"
  # Not to standard output, which may go to a file.
  echo "demo: that took $((SECONDS - start)) s" >&2
}
bundle() { find "$out/run" -maxdepth 1 -name '*.salad' | head -n 1; }

say "building the trainer and the edge runtime"
timed cargo build --release --locked --workspace --bin salad-trainer --bin salad-edge
trainer=${CARGO_TARGET_DIR:-target}/release/salad-trainer
edge=${CARGO_TARGET_DIR:-target}/release/salad-edge
rm -rf $out/run $out/edge
mkdir -p $out/edge

if [ -n "$data" ]; then
  [ -e "$data" ] || { echo "demo: DATA=$data is not there" >&2; exit 2; }
  say "training on $data"
  timed "$trainer" train "$data" --out $out/run
  if [ -d "$data/test" ]; then scored=$data/test; else scored=$data; fi
  say "scoring $scored on the edge runtime"
  # A picture that cannot be read is reported and costs the exit code; the others' scores are there all the same.
  timed "$edge" score "$(bundle)" "$scored" --json >$out/edge/scores.jsonl || [ -s $out/edge/scores.jsonl ]
  say "results"
  python3 scripts/demo_alerts.py scores $out/edge/scores.jsonl
else
  say "rendering a conveyor with good and defective parts"
  rm -rf $out/scene
  timed "$trainer" demo-scene $out/scene --seed 1
  say "training"
  timed "$trainer" train $out/scene --config trainer/recipes/demo.toml --name conveyor --out $out/run
  cat >$out/edge/edge.toml <<TOML
bundle = "../run/conveyor.salad"
form = "int8"

[source]
replay = { path = "../scene/stream", fps = 10, pace = "fast" }

[decision]
window_frames = 6
trigger_frames = 4
cooldown_secs = 1

[events]
log = "events.jsonl"

[snapshots]
dir = "snapshots"
TOML
  say "replaying the stream on the edge runtime"
  timed "$edge" run --config $out/edge/edge.toml --json >$out/edge/frames.jsonl
  say "results"
  python3 scripts/demo_alerts.py stream --truth $out/scene/stream/truth.csv --events $out/edge/events.jsonl \
    --frames $out/edge/frames.jsonl --evaluation $out/run/evaluation.json --fps 10
  echo "Snapshots: $PWD/$out/edge/snapshots"
fi
echo "Bundle:    $PWD/$(bundle)"
echo "Report:    $PWD/$out/run/report.html"
