#!/usr/bin/env bash
# Shows that the trainer runs on an NVIDIA GPU and does there what it does on the CPU: three epochs of the demo's recipe on
# each, and the losses side by side; then short runs from data to bundle, one of them stopped and resumed, of whole images,
# patches with negatives and `resnet18`. Then, where python3 has PyTorch, Pillow and safetensors, whether the reference
# follows the trainer's steps there, and whether the trainer is twice as fast. It needs no cargo, only the built program and
# a libtorch 2.11.0 with CUDA:
#   LD_LIBRARY_PATH=<torch>/lib scripts/gpu-check.sh [salad-trainer]
# GPU=cpu tries the script itself where there is none. ROUNDS=3 and SECONDS_EACH=10 say how long speed is measured.
set -euo pipefail
cd "$(dirname "$0")/.."
trainer=${1:-target/release/salad-trainer}
gpu=${GPU:-cuda}
out=target/gpu-check
rm -rf $out
mkdir -p $out
"$trainer" demo-scene $out/scene --seed 1
losses() {
  start=$SECONDS
  "$trainer" train $out/scene --config trainer/recipes/demo.toml --device "$2" --out "$out/$1" --stop-after 3
  echo "gpu-check: $2 took $((SECONDS - start)) s"
}
losses on-cpu cpu
losses on-gpu "$gpu"
python3 - $out/on-cpu/history.csv $out/on-gpu/history.csv <<'PY'
import csv, sys
cpu, cuda = ([float(row["total"]) for row in csv.DictReader(open(path))] for path in sys.argv[1:])
print("gpu-check: loss by epoch, cpu ", cpu)
print("gpu-check: loss by epoch, GPU", cuda)
off = max(abs(a - b) / abs(a) for a, b in zip(cpu, cuda, strict=True))
print(f"gpu-check: largest difference {off:.2%}")
sys.exit(0 if off < 0.05 else "gpu-check: FAILED: the losses differ by more than 5 %")
PY

# From data to bundle: embeddings, folding, integers, scores, report.
whole() {
  local name=$1
  shift
  "$trainer" train $out/scene --config trainer/recipes/demo.toml --device "$gpu" --set train.phase1_epochs=2 \
    --set train.round_epochs=1 --set train.rate=0.5 --set name="$name" --out "$out/$name" "$@"
}
whole image --stop-after 3
"$trainer" train --resume --out $out/image
whole average --set train.keep=average
whole patch --set network.patch.stride=16 --set train.negatives=pasted
whole resnet18 --network resnet18 --size 64 --set network.widths=[16,32,64,128]
for name in image average patch resnet18; do
  [ -s "$out/$name/$name.salad" ] || { echo "gpu-check: FAILED: no bundle of $name" >&2; exit 1; }
done

python3 -c 'import torch, PIL, safetensors' 2>/dev/null ||
  { echo "gpu-check: python3 has no torch, Pillow or safetensors: the reference is left out"; exit 0; }
"$trainer" trace $out/scene --device "$gpu" --set train.precision=f32 --set train.learning_rate=1e-5 --out $out/trace
python3 tests/reference/agreement.py $out/trace --device "$gpu"
speed() {
  python3 tests/reference/bench.py "$trainer" $out/scene/train/good --rounds "${ROUNDS:-3}" --seconds "${SECONDS_EACH:-10}" \
    --at-least 2 -- --device "$gpu" "$@"
}
failed=0
speed || failed=1
speed --network unet --size 256 --set train.views=1 || failed=1
exit $failed
