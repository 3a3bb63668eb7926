"""Follows the first steps of the trainer from the same weights with the same batches, and compares the losses.

    salad-trainer trace PICTURES --out TRACE
    agreement.py TRACE [TRACE ...]

Neighbourhoods are discovered here from the bank as it is after the steps of phase 1. Fails where a loss is off by more
than TOLERANCE, relative. `--device cuda` follows on a GPU.
"""

import argparse
import json
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file

import method
from networks import Autoencoder

TOLERANCE = 1e-3
TERMS = ["reconstruction", "sample_specific", "aggregation", "total"]


def follow(folder, device):
    """The largest relative difference of each term, and the number of steps."""
    trace = json.loads((folder / "trace.json").read_text())
    config, train = trace["config"], trace["config"]["train"]
    start = load_file(folder / "start.safetensors")
    bank = start.pop("bank").to(device)
    net = Autoencoder(config["network"], config["input"])
    missing = net.load_state_dict(start, strict=False)
    left = [name for name in missing.missing_keys if not name.endswith("num_batches_tracked")]
    if left or missing.unexpected_keys:
        sys.exit(f"{folder}: other parameters than the trainer's: {left + missing.unexpected_keys}")
    net = net.to(device, memory_format=torch.channels_last).train()
    adam, found, worst = method.optimiser(net, train), None, dict.fromkeys(TERMS, 0.0)
    for i, expected in enumerate(trace["steps"]):
        if expected["round"] > 0 and found is None:
            found = method.discover(bank, expected["round"], train["rate"], train["neighbours"], train["tau"])
        batch = load_file(folder / f"batch-{i:03}.safetensors", device=str(device))
        images = batch["images"].contiguous(memory_format=torch.channels_last)
        losses = method.step(net, bank, adam, images, batch["own"], found, train).tolist()
        for term, loss in zip(TERMS, losses):
            off = abs(loss - expected[term]) / max(abs(expected[term]), 1e-12)
            worst[term] = max(worst[term], off)
    return worst, trace["steps"]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("traces", nargs="+", type=Path)
    parser.add_argument("--device", default="cpu", type=torch.device)
    arguments = parser.parse_args()
    # What rounds the products of a GPU would drown the comparison.
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    failed = False
    for folder in arguments.traces:
        worst, steps = follow(folder, arguments.device)
        rounds = [step["round"] for step in steps]
        first, last = steps[0]["total"], steps[-1]["total"]
        print(f"reference: {folder.name}: {rounds.count(0)} steps of phase 1 and {len(rounds) - rounds.count(0)} of phase 2, "
              f"loss {first:.4f} to {last:.4f}")
        print("reference:   largest relative difference: " + ", ".join(f"{t} {v:.1e}" for t, v in worst.items()))
        failed |= max(worst.values()) > TOLERANCE
    if failed:
        sys.exit(f"reference: FAILED: a loss differs by more than {TOLERANCE}")
    print(f"reference: all losses agree to {TOLERANCE}")


if __name__ == "__main__":
    main()
