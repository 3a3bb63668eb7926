#!/usr/bin/env bash
# Shows that the trainer runs on an NVIDIA GPU and does there what it does on the CPU: three epochs of the demo's recipe on
# each, and the losses side by side. Then, where python3 has PyTorch, Pillow and safetensors, whether the reference follows
# the trainer's steps there, and how fast each is. It needs no cargo, only the built program and a libtorch 2.11.0 with CUDA:
#   LD_LIBRARY_PATH=<torch>/lib scripts/gpu-check.sh [salad-trainer]
set -euo pipefail
cd "$(dirname "$0")/.."
trainer=${1:-target/release/salad-trainer}
out=target/gpu-check
rm -rf $out
mkdir -p $out
"$trainer" demo-scene $out/scene --seed 1
for device in cpu cuda; do
  start=$SECONDS
  "$trainer" train $out/scene --config trainer/recipes/demo.toml --device $device --out $out/$device --stop-after 3
  echo "gpu-check: $device took $((SECONDS - start)) s"
done
python3 - $out/cpu/history.csv $out/cuda/history.csv <<'PY'
import csv, sys
cpu, cuda = ([float(row["total"]) for row in csv.DictReader(open(path))] for path in sys.argv[1:])
print("gpu-check: loss by epoch, cpu ", cpu)
print("gpu-check: loss by epoch, cuda", cuda)
off = max(abs(a - b) / abs(a) for a, b in zip(cpu, cuda, strict=True))
print(f"gpu-check: largest difference {off:.2%}")
sys.exit(0 if off < 0.05 else "gpu-check: FAILED: the losses differ by more than 5 %")
PY
python3 -c 'import torch, PIL, safetensors' 2>/dev/null ||
  { echo "gpu-check: python3 has no torch, Pillow or safetensors: the reference is left out"; exit 0; }
"$trainer" trace $out/scene --device cuda --set train.precision=f32 --set train.learning_rate=1e-5 --out $out/trace
python3 tests/reference/agreement.py $out/trace --device cuda
python3 tests/reference/bench.py "$trainer" $out/scene/train/good -- --device cuda
python3 tests/reference/bench.py "$trainer" $out/scene/train/good -- --device cuda --network unet --size 256
