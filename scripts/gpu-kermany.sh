#!/usr/bin/env bash
# Trains on the chest X-rays on an NVIDIA GPU, three seeds side by side, and prints what each says of its test set:
#   paper   the recipe kermany-paper with the paper's whole schedule, 550 epochs; on one H200 ten minutes
#   best    the recipe kermany, and ensembles of three networks, of edge-l and of its resnet18, by whose made-up anomalies and
#           negatives the recipe is to be chosen; --size 128 for pictures of twice the side
# It needs no cargo, only the built program, a libtorch 2.11.0 with CUDA, and the pictures in target/data/kermany_cxr:
#   LD_LIBRARY_PATH=<torch>/lib scripts/gpu-kermany.sh paper|best [FLAG ...]
# Flags go to `salad-trainer train`. GPU=cpu tries the script itself where there is none; SEEDS="1 2 3" and TRAINER=<program> are
# those that are meant.
set -euo pipefail
cd "$(dirname "$0")/.."
what=${1:?"usage: $0 paper|best [FLAG ...]"}
shift
trainer=${TRAINER:-target/release/salad-trainer}
out=target/gpu-kermany
seeds=${SEEDS:-1 2 3}
[ -d target/data/kermany_cxr ] || { echo "gpu-kermany: no target/data/kermany_cxr" >&2; exit 1; }

# Each seed's run has its share of the cores to make its batches.
threads=$(($(nproc) / $(wc -w <<<"$seeds")))
train() {
  local name=$1 recipe=$2 start=$SECONDS
  shift 2
  for seed in $seeds; do
    rm -rf "$out/$name-$seed"
    mkdir -p "$out"
    "$trainer" train --config "trainer/recipes/$recipe.toml" --device "${GPU:-cuda}" --seed "$seed" --out "$out/$name-$seed" \
      --set train.loader_threads=$((threads > 0 ? threads : 1)) "$@" >"$out/$name-$seed.log" 2>&1 &
  done
  for job in $(jobs -p); do
    wait "$job" || { tail -n 3 "$out/$name"-*.log >&2; exit 1; }
  done
  for seed in $seeds; do
    echo "gpu-kermany: $name, seed $seed, after $((SECONDS - start)) s:"
    grep -E "^(f32|int8):|^  (AUROC|TPR)|^(made-up|negatives)" "$out/$name-$seed.log"
  done
}

case $what in
paper) train paper kermany-paper --set train.phase1_epochs=50 --set train.round_epochs=50 "$@" ;;
best)
  train kermany kermany "$@"
  three=(--set "ensemble=[]" --set train.members=3)
  train edge-l kermany --network edge-l --set "network.widths=[]" "${three[@]}" "$@"
  train resnet18 kermany "${three[@]}" "$@"
  ;;
*) echo "gpu-kermany: $what: has to be paper or best" >&2; exit 1 ;;
esac
