#!/usr/bin/env python3
"""What networks of the family `edge` bring for their time: AUROC against the time of a frame. docs/networks.md holds what it
printed, docs/networks.svg what it drew.

    scripts/pareto.py [--seeds 1,2,3] [--threads 1] [--rounds 40] [--plot FILE.svg] [DATA ...]

DATA is bottle, person, car or kermany; by default all. The runs go to target/pareto, where one that was stopped goes on and one
that is done is not trained again. Seeds beyond the first are for bottle, where they matter most. Python's standard library
alone; `make networks` builds the programs first.

Networks are compared by AUROC on the test set, which chooses nothing, and by that of made-up anomalies on validation images,
which no label is needed for. Times are those of the int8 encoder on one thread, all networks in turns in one run, with the
processor's fastest instructions and with AVX2's, which like those of a Raspberry Pi 3 or 4 have no dot product of bytes.
"""

import argparse
import json
import re
import statistics
import subprocess
import tarfile
from pathlib import Path

import pareto_plot
from bench_edge import FRAMES, Worker, end, interleaved
from measure import ROOT, auroc, edge_scores, test_images, unpack

TRAINER = ROOT / "target/release/salad-trainer"
OUT = ROOT / "target/pareto"
# Name: what is set besides the recipe.
NETWORKS = {
    "edge-s": ["network.kind=edge-s"],
    "edge": ["network.kind=edge"],
    "edge-l": ["network.kind=edge-l"],
}
# What the others' times are held against.
BASE = "edge"
# Name: archive, recipe, and what is set besides: the chest X-rays are seen fewer times than the recipe has it.
DATA = {
    "bottle": ("intel_fixedcam", "intel-bottle", []),
    "person": ("intel_fixedcam", "intel-person", []),
    "car": ("intel_fixedcam", "intel-car", []),
    "kermany": (
        "kermany_cxr",
        "kermany",
        ["network.widths=[]", "ensemble=[]", "train.phase1_epochs=8", "train.round_epochs=2"],
    ),
}
KERNELS = {"fastest": {}, "AVX2": {"SALAD_KERNEL": "avx2"}}


def flags(settings):
    return [part for setting in settings for part in ("--set", setting)]


def train(data, network, seed, threads):
    """One run and its figures: the AUROC of made-up anomalies, that of the test set, and the network's cost."""
    archive, recipe, settings = DATA[data]
    out = OUT / f"{data}-{seed}-{re.sub('[^a-z0-9]+', '-', network)}"
    done = out / "study.json"
    if done.is_file():
        return json.loads(done.read_text(encoding="utf-8"))
    flagged = ["--config", f"trainer/recipes/{recipe}.toml", *flags(settings + NETWORKS[network]), "--seed", str(seed)]
    flagged += ["--device", "cpu", "--threads", str(threads), "--set", "train.loader_threads=1"]
    command = ["--resume"] if (out / "checkpoint.json").is_file() else flagged
    said = subprocess.run(
        [TRAINER, "train", *command, "--out", out], cwd=ROOT, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ).stdout
    made_up = re.search(r"made-up anomalies against validation images, int8: AUROC (\S+)", said)
    rows, paths = test_images(out)
    bundle = next(out.glob("*.salad"))
    scores = edge_scores(out, bundle, "int8", paths)
    normal = [score for score, row in zip(scores, rows, strict=True) if not row["kind"]]
    anomalous = [score for score, row in zip(scores, rows, strict=True) if row["kind"]]
    with tarfile.open(bundle) as tar:
        encoder = json.load(tar.extractfile("manifest.json"))["encoder"]
        tar.extract("encoder.int8.onnx", out)
    found = {
        "made_up": float(made_up[1]),
        "test": auroc(normal, anomalous),
        "flop": encoder["flop"],
        "parameters": encoder["parameters"],
        "dim": encoder["embedding_dim"],
        "bundle": str(bundle),
        "encoder": str(out / "encoder.int8.onnx"),
    }
    done.write_text(json.dumps(found), encoding="utf-8")
    print(f"{data}, seed {seed}, {network}: made-up {found['made_up']:.4f}, test {found['test']:.4f}", flush=True)
    return found


def times(runs, input_shape, rounds):
    """For each kernel and network the time of a frame, microseconds, and its ratio to BASE's, all in turns."""
    workers = {}
    for kernel, environment in KERNELS.items():
        for network, run in runs.items():
            encode = [ROOT / "target/release/examples/encode", "salad", run["encoder"], *map(str, input_shape), str(run["dim"]), "1"]
            workers[kernel, network] = Worker(encode, environment)
    measured = interleaved(workers, FRAMES, rounds)
    end(workers)
    ratio = lambda kernel, network: statistics.median(a / b for a, b in zip(measured[kernel, network], measured[kernel, BASE]))
    return {key: (statistics.median(measured[key]), ratio(*key)) for key in measured}


def spread(values):
    if len(values) == 1:
        return f"{values[0]:.4f}"
    return f"{statistics.mean(values):.4f} ± {statistics.stdev(values):.4f}"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="DATA")
    parser.add_argument("--seeds", type=lambda text: [int(seed) for seed in text.split(",")], default=[1, 2, 3])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--plot", type=Path)
    arguments = parser.parse_args()
    panels = {}
    for data in arguments.names or DATA:
        if not unpack(DATA[data][0]):
            print(f"{data}: skipped, {DATA[data][0]}.tar.gz is not in $SALAD_DATA or ../shared/data")
            continue
        seeds = arguments.seeds if data == "bottle" else arguments.seeds[:1]
        runs = {network: [train(data, network, seed, arguments.threads) for seed in seeds] for network in NETWORKS}
        shape = (64, 1) if data == "kermany" else (128, 3)
        timed = times({network: found[0] for network, found in runs.items()}, shape, arguments.rounds)
        head = " | ".join(f"{kernel}, µs | ratio" for kernel in KERNELS)
        print(f"\n| {data} | MFLOP | thousand weights | {head} | made-up, validation | test AUROC, int8 |")
        print("|" + "---|" * (5 + 2 * len(KERNELS)), flush=True)
        points = []
        for network, found in runs.items():
            took = " | ".join("{:.0f} | {:.2f}".format(*timed[kernel, network]) for kernel in KERNELS)
            made_up, test = [run["made_up"] for run in found], [run["test"] for run in found]
            print(f"| {network} | {found[0]['flop'] / 1e6:.0f} | {found[0]['parameters'] / 1e3:.0f} | {took} | {spread(made_up)} | {spread(test)} |")
            points.append((network, timed["fastest", network][1], test))
        panels[data] = points
    if arguments.plot and panels:
        arguments.plot.write_text(pareto_plot.draw(panels, BASE), encoding="utf-8")


if __name__ == "__main__":
    main()
