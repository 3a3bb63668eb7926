#!/usr/bin/env bash
# Holds the trainer against the method's PyTorch reference in tests/reference, which is written from the formulas alone.
# Called by `make reference` and `make bench-train`.
#   scripts/reference.sh agreement          20 steps of each phase from the same weights: the losses agree to 1e-3
#   scripts/reference.sh speed [FLAGS]      whole steps, each with its own loading, in turn; FLAGS are of `salad-trainer bench`
# PICTURES=<folder> names other pictures than the demo's for the speed. Everything lands under target/.
set -euo pipefail
cd "$(dirname "$0")/.."

what=${1:?agreement or speed}
shift
out=target/reference-runs
trainer=${CARGO_TARGET_DIR:-target}/release/salad-trainer
python=target/reference/bin/python
scripts/setup-reference.sh
cargo build --release --locked --workspace --bin salad-trainer
rm -rf $out
mkdir -p $out
"$trainer" demo-scene $out/scene --seed 1

case "$what" in
  agreement)
    # Learning rates at which rounding does not drown the comparison (tests/reference/agreement.py says why). The deepest map
    # of `unet` has one place here, and statistics over 32 values: it needs the lower one.
    "$trainer" trace $out/scene --set train.learning_rate=1e-5 --out $out/edge-128
    "$trainer" trace $out/scene --set train.learning_rate=3e-7 --network unet --size 64 --out $out/unet-64
    $python tests/reference/agreement.py $out/edge-128 $out/unet-64
    ;;
  speed)
    $python tests/reference/bench.py "$trainer" "${PICTURES:-$out/scene/train/good}" -- "$@"
    ;;
  *)
    echo "reference: $what is not known; agreement or speed" >&2
    exit 2
    ;;
esac
