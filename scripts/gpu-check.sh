#!/usr/bin/env bash
# Shows that the trainer runs on an NVIDIA GPU and does there what it does on the CPU: three epochs of the demo's recipe on
# each, and the losses side by side. It needs no cargo, only the built program and a libtorch 2.11.0 with CUDA:
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
