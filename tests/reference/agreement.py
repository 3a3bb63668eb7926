"""Follows the first steps of the trainer from the same weights with the same batches, and compares the losses.

    salad-trainer trace PICTURES --out TRACE
    agreement.py TRACE [TRACE ...]

Neighbourhoods are discovered here from the bank as it is after the steps of phase 1. Fails where a loss is off by more
than TOLERANCE, relative. `--device cuda` follows on a GPU.

Adam's first steps have the length of the learning rate whatever a gradient's size, so a gradient that is nearly nothing
moves its weight by the sign of its rounding. How far that alone takes PyTorch from itself is printed too: the same steps
once more, with images and weights in another layout in memory.
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


def follow(folder, device, layout):
    """The losses [steps, terms] here and in the trainer, and each step's round."""
    trace = json.loads((folder / "trace.json").read_text())
    config, train = trace["config"], trace["config"]["train"]
    start = load_file(folder / "start.safetensors")
    bank = start.pop("bank").to(device)
    net = Autoencoder(config["network"], config["input"])
    missing = net.load_state_dict(start, strict=False)
    left = [name for name in missing.missing_keys if not name.endswith("num_batches_tracked")]
    if left or missing.unexpected_keys:
        sys.exit(f"{folder}: other parameters than the trainer's: {left + missing.unexpected_keys}")
    net = net.to(device, memory_format=layout).train()
    adam, found, losses = method.optimiser(net, train), None, []
    for i, expected in enumerate(trace["steps"]):
        if expected["round"] > 0 and found is None:
            found = method.discover(bank, expected["round"], train["rate"], train["neighbours"], train["tau"])
        batch = load_file(folder / f"batch-{i:03}.safetensors", device=str(device))
        images = batch["images"].contiguous(memory_format=layout)
        losses.append(method.step(net, bank, adam, images, batch["own"], found, train).double().cpu())
    expected = torch.tensor([[step[term] for term in TERMS] for step in trace["steps"]], dtype=torch.double)
    return torch.stack(losses), expected, [step["round"] for step in trace["steps"]]


def largest(losses, expected):
    """Of each term the largest relative difference over the steps."""
    return ((losses - expected).abs() / expected.abs().clamp(min=1e-12)).amax(0).tolist()


def shown(differences):
    return ", ".join(f"{term} {value:.1e}" for term, value in zip(TERMS, differences))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("traces", nargs="+", type=Path)
    parser.add_argument("--device", default="cpu", type=torch.device)
    arguments = parser.parse_args()
    # What rounds the products of a GPU would drown the comparison.
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    failed = False
    for folder in arguments.traces:
        here, trainer, rounds = follow(folder, arguments.device, torch.channels_last)
        differences = largest(here, trainer)
        failed |= max(differences) > TOLERANCE
        print(f"reference: {folder.name}: {rounds.count(0)} steps of phase 1 and {len(rounds) - rounds.count(0)} of phase 2, "
              f"loss {trainer[0, -1]:.4f} to {trainer[-1, -1]:.4f}; largest relative difference")
        print(f"reference:   trainer to PyTorch:   {shown(differences)}")
        again, _, _ = follow(folder, arguments.device, torch.contiguous_format)
        print(f"reference:   PyTorch to itself:    {shown(largest(again, here))}")
    if failed:
        sys.exit(f"reference: FAILED: a loss differs by more than {TOLERANCE}")
    print(f"reference: all losses agree to {TOLERANCE}")


if __name__ == "__main__":
    main()
