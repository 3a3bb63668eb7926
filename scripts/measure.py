#!/usr/bin/env python3
"""Trains recipes on real pictures and measures them on the edge runtime, int8. Standard library only.

    scripts/measure.py [RECIPE ...]      names in trainer/recipes, by default all that have data here

The pictures are archives NAME.tar.gz in $SALAD_DATA, by default ../shared/data; a recipe whose archive is absent is
skipped, and that is said. They are unpacked under target/data, the runs go to target/measure.
"""

import csv
import json
import os
import pathlib
import subprocess
import sys
import tarfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
RECIPES = {
    "intel-bottle": "intel_fixedcam",
    "intel-person": "intel_fixedcam",
    "intel-car": "intel_fixedcam",
    "aws-aliens": "aws_aliens",
}


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


def measure(recipe):
    """Trains a recipe, scores its test images on the edge, and prints a line."""
    out = ROOT / "target/measure" / recipe
    subprocess.run(["rm", "-rf", out], check=True)
    out.parent.mkdir(parents=True, exist_ok=True)
    trainer, edge = (ROOT / "target/release" / p for p in ("salad-trainer", "salad-edge"))
    start = time.monotonic()
    train = [trainer, "train", "--config", f"trainer/recipes/{recipe}.toml", "--out", out]
    subprocess.run(train, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    took = time.monotonic() - start
    config = (out / "config.toml").read_text(encoding="utf-8")
    root = next(line.split('"')[1] for line in config.splitlines() if line.startswith("root = "))
    with open(out / "scores.csv", encoding="utf-8", newline="") as file:
        rows = [r for r in csv.DictReader(file) if r["split"] == "test"]
    paths = [str(ROOT / root / r["name"]) for r in rows]
    figures = {}
    for form in ("f32", "int8"):
        score = [edge, "score", out / f"{recipe}.salad", *paths, "--form", form, "--json"]
        lines = subprocess.run(score, check=True, capture_output=True, text=True).stdout.splitlines()
        scores = [json.loads(line)["score"] for line in lines]
        pairs = list(zip(scores, rows, strict=True))
        normal = [s for s, r in pairs if not r["kind"]]
        anomalous = [s for s, r in pairs if r["kind"]]
        figures[form] = auroc(normal, anomalous)
    print(
        f"{recipe}: AUROC on the edge runtime int8 {figures['int8']:.4f}, f32 {figures['f32']:.4f} "
        f"({len(normal)} normal, {len(anomalous)} anomalous test images); trained in {took:.0f} s on {os.cpu_count()} CPUs",
        flush=True,
    )


def main():
    wanted = sys.argv[1:] or list(RECIPES)
    for recipe in wanted:
        if recipe not in RECIPES:
            sys.exit(f"measure.py: {recipe} is not one of {', '.join(RECIPES)}")
    subprocess.run(["cargo", "build", "--release", "--locked", "-p", "salad-trainer", "-p", "salad-edge"], cwd=ROOT, check=True)
    for recipe in wanted:
        if unpack(RECIPES[recipe]):
            measure(recipe)
        else:
            print(f"{recipe}: skipped, {RECIPES[recipe]}.tar.gz is not in $SALAD_DATA or ../shared/data")


if __name__ == "__main__":
    main()
