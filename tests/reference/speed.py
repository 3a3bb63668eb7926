"""Times whole steps of the reference, its own loading included: files decoded, resized and augmented by DataLoader workers.

    salad-trainer bench PICTURES --json > REPORT
    speed.py REPORT PICTURES

REPORT gives the recipe, device, threads and precision, so that both do the same work. Prints one line of JSON.
"""

import argparse
import json
import math
import os
import time
from pathlib import Path

import torch
from torch.nn import functional as F

import data
import method
from networks import WIDTHS, Autoencoder

WARM_UP_STEPS = 3


def cpu_seconds(workers):
    """Processor time that this process and the loader's workers have used."""
    ticks = 0
    for pid in [os.getpid(), *workers]:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def batches(loader, pids):
    while True:
        epoch = iter(loader)
        pids[:] = [worker.pid for worker in getattr(epoch, "_workers", [])]
        yield from epoch


def beyond(config):
    """Settings that the reference has not: with them the two would do different work."""
    augment, train, network = config["augment"], config["train"], config["network"]
    off = {
        "network.kind": network["kind"] in WIDTHS,
        "network.patch": "patch" not in network,
        "train.negatives": train["negatives"] == "none",
        "augment.crop_min_area": augment["crop_min_area"] == 1,
        **{f"augment.{name}": augment[name] == 0 for name in ("hue_degrees", "grey", "blur_sigma", "erase")},
    }
    return [name for name, is_off in off.items() if not is_off]


def measure(report, folder, seconds, keep, workers):
    config, train = report["config"], report["config"]["train"]
    if beyond(config):
        raise SystemExit(f"speed: the reference has no {', '.join(beyond(config))}: compare with a recipe without")
    # The trainer says cpu or Cuda(0).
    device = torch.device(report["device"].lower().replace("(", ":").rstrip(")"))
    cuda = device.type == "cuda"
    torch.set_num_threads(report["threads"])
    torch.backends.cudnn.benchmark = True
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = report["precision"] != "f32"
    autocast = torch.bfloat16 if report["precision"] == "bf16" else None
    torch.manual_seed(config["seed"])
    pictures = data.Pictures(folder, config, report["images"], keep)
    net = Autoencoder(config["network"], config["input"]).to(device, memory_format=torch.channels_last).train()
    adam = method.optimiser(net, train)
    bank = F.normalize(torch.randn(len(pictures), config["network"]["embedding_dim"], device=device), dim=1)
    found = method.discover(bank, math.ceil(1 / train["rate"] - 1e-9), train["rate"], train["neighbours"], train["tau"])
    loader = data.loader(pictures, config, workers, cuda)
    images, pids = 0, []
    # cuDNN tries its algorithms out on each size of batch, of which the last of an epoch has its own.
    warm_up = WARM_UP_STEPS + (len(loader) if cuda else 0)
    for i, (own, views) in enumerate(batches(loader, pids)):
        own = own.to(device, non_blocking=True)
        method.step(net, bank, adam, data.to_input(views, config, device), own, found, train, autocast)
        if i < warm_up:
            if cuda:
                torch.cuda.synchronize()
            began, began_cpu = time.perf_counter(), cpu_seconds(pids)
            continue
        images += len(own)
        if time.perf_counter() - began > seconds:
            break
    if cuda:
        torch.cuda.synchronize()
    took, cpu = time.perf_counter() - began, cpu_seconds(pids) - began_cpu
    if len(pictures) != report["images"]:
        raise SystemExit(f"{folder}: {len(pictures)} pictures, and the trainer found {report['images']}")
    return {"images_per_second": images / took, "images_per_cpu_second": images / cpu}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("report", type=Path)
    parser.add_argument("pictures", type=Path)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--keep", action="store_true", help="keep decoded pictures in memory")
    parser.add_argument("--workers", type=int, default=min(os.cpu_count() or 1, 16))
    a = parser.parse_args()
    print(json.dumps(measure(json.loads(a.report.read_text()), a.pictures, a.seconds, a.keep, a.workers)))


if __name__ == "__main__":
    main()
