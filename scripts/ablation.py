#!/usr/bin/env python3
"""What each part of the method brings, as a table: losses, the curriculum, scores, K, prototypes. docs/ablation.md holds what
it printed. Standard library only.

    scripts/ablation.py [--seeds 1,2,3] [--threads 1] [NAME ...]      kermany or bottle; by default both

Small and quick settings. The runs go to target/ablation, where one that is done is not trained again.
"""

import argparse
import json
import statistics
import subprocess

from measure import ROOT, unpack

TRAINER = ROOT / "target/release/salad-trainer"
# Name: archive, flags, epochs that those take in all, and the negatives that the recipe has not.
DATA = {
    "kermany": (
        "kermany_cxr",
        ["--config", "trainer/recipes/kermany.toml", "--network", "edge", "--set", "network.widths=[]",
         "--set", "ensemble=[]", "--set", "train.phase1_epochs=8", "--set", "train.round_epochs=2"],
        8 + 5 * 2,
        "none",
    ),
    "bottle": ("intel_fixedcam", ["--config", "trainer/recipes/intel-bottle.toml"], 10 + 5 * 4, "pasted"),
}  # fmt: skip
# What is trained anew. `{epochs}` is as many as the whole method takes, `{other}` the other negatives.
TRAININGS = {
    "L_rec": ["train.w_con=0"],
    "L_rec + L_ss": ["train.phase1_epochs={epochs}", "train.round_epochs=0"],
    "L_rec + L_ss + L_agg": [],
    "the same, prototypical images drawn": ['train.selection="random"'],
    "L_ss + L_agg": ["train.w_rec=0"],
    "the whole method, train.negatives = {other}": ["train.negatives={other}"],
}
WHOLE = "L_rec + L_ss + L_agg"
# What a trained run is evaluated with. All else is as in the row of the whole method: the bank of all training images.
SCORES = {
    "nearest": ["score.kind=nearest"],
    "angular-mean, K = 5": ["score.k=5"],
    "angular-mean, K = 20": ["score.k=20"],
    "angular-mean, K = 100": ["score.k=100"],
    "weighted, K = 5": ["score.kind=weighted", "score.k=5"],
    "weighted, K = 100": ["score.kind=weighted", "score.k=100"],
    "angular-mean, K = 5, P = 16": ["score.k=5", "condense.prototypes=16"],
    "angular-mean, K = 5, P = 64": ["score.k=5", "condense.prototypes=64"],
    "angular-mean, K = 5, P = 256": ["score.k=5", "condense.prototypes=256"],
}


def flags(settings):
    return [part for setting in settings for part in ("--set", setting)]


def run(*command):
    subprocess.run([TRAINER, *command], cwd=ROOT, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def auroc(out):
    return json.loads((out / "evaluation.json").read_text(encoding="utf-8"))["forms"]["f32"]["auroc"]


def train(name, variant, seed, threads):
    """A run of one variant, trained unless it is there; what it is evaluated with stays the same over all variants."""
    _, recipe, epochs, other = DATA[name]
    out = ROOT / "target/ablation" / f"{name}-{list(TRAININGS).index(variant)}-{seed}"
    if (out / "evaluation.json").is_file():
        return out
    settings = [setting.format(epochs=epochs, other=other) for setting in TRAININGS[variant]]
    settings += ["condense.prototypes=all", "score.k=5", "train.keep=last", "train.loader_threads=1"]
    resume = ["--resume"] if (out / "checkpoint.json").is_file() else [*recipe, *flags(settings), "--seed", str(seed)]
    run("train", *resume, "--device", "cpu", "--threads", str(threads), "--out", str(out))
    return out


def row(label, values):
    print(f"| {label} | {statistics.mean(values):.4f} +- {statistics.stdev(values):.4f} | "
          + ", ".join(f"{v:.4f}" for v in values) + " |", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--seeds", type=lambda text: [int(seed) for seed in text.split(",")], default=[1, 2, 3])
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    subprocess.run(["cargo", "build", "--release", "--locked", "--workspace", "--bin", "salad-trainer"], cwd=ROOT, check=True)
    for name in arguments.names or DATA:
        if not unpack(DATA[name][0]):
            print(f"{name}: skipped, {DATA[name][0]}.tar.gz is not in $SALAD_DATA or ../shared/data")
            continue
        print(f"\n| {name} | test AUROC, f32 | by seed |\n|---|---|---|", flush=True)
        for variant in TRAININGS:
            row(variant.format(other=DATA[name][3]), [auroc(train(name, variant, seed, arguments.threads)) for seed in arguments.seeds])
        for label, settings in SCORES.items():
            values = []
            for seed in arguments.seeds:
                out = train(name, WHOLE, seed, arguments.threads)
                kept = (out / "evaluation.json").read_bytes(), (out / "scores.csv").read_bytes()
                run("evaluate", str(out), *flags(settings), "--threads", str(arguments.threads))
                values.append(auroc(out))
                (out / "evaluation.json").write_bytes(kept[0])
                (out / "scores.csv").write_bytes(kept[1])
            row(label, values)


if __name__ == "__main__":
    main()
