#!/usr/bin/env python3
"""Trains recipes on real pictures and measures them on the edge runtime, both forms. Standard library only.

    scripts/measure.py [--seeds 1,2,3] [NAME ...]      by default all that have data here, with the recipe's own seed

The pictures are archives NAME.tar.gz in $SALAD_DATA, by default ../shared/data; what has no archive is skipped, and that is
said. They are unpacked under target/data; the runs go to target/measure, where one that was stopped goes on, and one that
is done is only measured again.
"""

import argparse
import csv
import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import tarfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
CLASSES = "airplane automobile bird cat deer dog frog horse ship truck".split()
# Name: archive, recipe, settings besides.
RECIPES = {
    "intel-bottle": ("intel_fixedcam", "intel-bottle", []),
    "intel-person": ("intel_fixedcam", "intel-person", []),
    "intel-car": ("intel_fixedcam", "intel-car", []),
    "aws-aliens": ("aws_aliens", "aws-aliens", []),
    "aws-cookies": ("aws_cookies", "aws-cookies", []),
    "magnetic-tile": ("magnetic_tile", "magnetic-tile", []),
    "kermany": ("kermany_cxr", "kermany", []),
    "kermany-paper": ("kermany_cxr", "kermany-paper", []),
    **{f"cifar10-{c}": ("cifar10_jpg", "cifar10-class", [f"data.normal_class={c}"]) for c in CLASSES},
}
# The false-positive rate at which the literature's figure for chest X-rays is read.
FPR = 0.45


def unpack(name):
    """Unpacks an archive of pictures, once; whether it is there."""
    target = ROOT / "target/data" / name
    if target.is_dir():
        return True
    archive = pathlib.Path(os.environ.get("SALAD_DATA", ROOT / "../shared/data")) / f"{name}.tar.gz"
    if not archive.is_file():
        return False
    target.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(archive) as tar:
        tar.extractall(target.parent)
    return True


def auroc(normal, anomalous):
    """The chance that an anomalous score lies above a normal one, ties counted half."""
    wins = sum((a > n) + 0.5 * (a == n) for a in anomalous for n in normal)
    return wins / (len(anomalous) * len(normal))


def true_positive_rate(normal, anomalous, fpr):
    """The share of anomalous scores above the threshold that at most a share `fpr` of the normal ones is above."""
    ranked = sorted(normal, reverse=True)
    threshold = ranked[min(int(fpr * len(ranked)), len(ranked) - 1)]
    return sum(a > threshold for a in anomalous) / len(anomalous)


def edge_scores(out, bundle, form, paths):
    """The scores of pictures on the edge runtime, in their order."""
    scores = []
    for start in range(0, len(paths), 2000):
        score = [out.parents[1] / "release/salad-edge", "score", bundle, *paths[start : start + 2000], "--form", form, "--json"]
        lines = subprocess.run(score, check=True, capture_output=True, text=True).stdout.splitlines()
        scores += [json.loads(line)["score"] for line in lines]
    return scores


def settings(out):
    """The keys of a run's configuration, of whatever table."""
    config = (out / "config.toml").read_text(encoding="utf-8")
    return {key: text.strip('"') for key, _, text in (line.partition(" = ") for line in config.splitlines())}


def test_images(out):
    """The rows of a run's scores.csv that are the test set's, and where their pictures are."""
    with open(out / "scores.csv", encoding="utf-8", newline="") as file:
        rows = [r for r in csv.DictReader(file) if r["split"] == "test"]
    return rows, [str(ROOT / settings(out)["root"] / r["name"]) for r in rows]


def measure(name, seed):
    """Trains a recipe, scores its test images on the edge, prints a line, and gives the figures by name."""
    _, recipe, sets = RECIPES[name]
    out = ROOT / "target/measure" / (name if seed is None else f"{name}-{seed}")
    out.parent.mkdir(parents=True, exist_ok=True)
    trainer = ROOT / "target/release/salad-trainer"
    if (out / "checkpoint.json").is_file():
        train = [trainer, "train", "--resume", "--out", out]
    else:
        shutil.rmtree(out, ignore_errors=True)
        keys = [part for key in sets for part in ("--set", key)] + (["--seed", str(seed)] if seed is not None else [])
        train = [trainer, "train", "--config", f"trainer/recipes/{recipe}.toml", *keys, "--out", out]
    subprocess.run(train, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    # Of an ensemble each member has one.
    histories = [path.read_text(encoding="utf-8").splitlines() for path in out.rglob("history.csv")]
    took = sum(float(r["seconds"]) for history in histories for r in csv.DictReader(history))
    threads = int(settings(out)["threads"]) or os.cpu_count()
    rows, paths = test_images(out)
    bundle = next(out.glob("*.salad"))
    pixel = json.loads((out / "evaluation.json").read_text(encoding="utf-8"))["forms"]
    figures = {}
    for form in ("int8", "f32"):
        pairs = list(zip(edge_scores(out, bundle, form, paths), rows, strict=True))
        normal = [s for s, r in pairs if not r["kind"]]
        anomalous = [s for s, r in pairs if r["kind"]]
        figures[f"AUROC {form}"] = auroc(normal, anomalous)
        figures[f"TPR at FPR {FPR} {form}"] = true_positive_rate(normal, anomalous, FPR)
        if pixel[form]["pixel"]:
            figures |= {f"pixel AUROC {form}": pixel[form]["pixel"]["auroc"], f"AUPRO {form}": pixel[form]["pixel"]["aupro"]}
    shown = ", ".join(f"{figure} {value:.4f}" for figure, value in figures.items())
    print(
        f"{out.name}: {shown} ({len(normal)} normal, {len(anomalous)} anomalous test images, on the edge runtime); "
        f"trained in {took:.0f} s with {threads} thread{'s'[: threads > 1]}",
        flush=True,
    )
    return figures


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(RECIPES))
    parser.add_argument("--seeds", type=lambda text: [int(seed) for seed in text.split(",")], default=[None])
    arguments = parser.parse_args()
    for name in arguments.names:
        if name not in RECIPES:
            sys.exit(f"measure.py: {name} is not one of {', '.join(RECIPES)}")
    build = ["cargo", "build", "--release", "--locked", "--workspace", "--bin", "salad-trainer", "--bin", "salad-edge"]
    subprocess.run(build, cwd=ROOT, check=True)
    for name in arguments.names or RECIPES:
        archive = RECIPES[name][0]
        if not unpack(archive):
            print(f"{name}: skipped, {archive}.tar.gz is not in $SALAD_DATA or ../shared/data")
            continue
        runs = [measure(name, seed) for seed in arguments.seeds]
        if len(runs) > 1:
            spread = (f"{f} {statistics.mean(v):.4f} +- {statistics.stdev(v):.4f}" for f in runs[0] for v in [[r[f] for r in runs]])
            print(f"{name}: mean and standard deviation of {len(runs)} seeds: {', '.join(spread)}", flush=True)


if __name__ == "__main__":
    main()
