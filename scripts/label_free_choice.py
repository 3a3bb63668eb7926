#!/usr/bin/env python3
"""Measures how well what can be measured without labels tracks the test AUROC over the rounds of a run, and what each
train.keep ends with. docs/label-free-choice.md holds what it printed. Standard library only.

    scripts/label_free_choice.py [--seeds 1,2] [--set KEY=VALUE ...] [NAME ...]

NAME is bottle, aliens or kermany; by default all that have data here (as scripts/measure.py finds it). Small and quick
settings, one thread; the runs go to target/label-free.
"""

import argparse
import json
import shutil
import subprocess
import time

from measure import ROOT, unpack

# Ten rounds, so that there is something to correlate.
ROUNDS = ["train.rate=0.1", "train.keep_rounds=true", "train.loader_threads=1"]
DATA = {
    "bottle": ("intel_fixedcam", ["--config", "trainer/recipes/intel-bottle.toml"]),
    "aliens": ("aws_aliens", ["--config", "trainer/recipes/aws-aliens.toml"]),
    "kermany": (
        "kermany_cxr",
        ["target/data/kermany_cxr", "--size", "64", "--set", "data.layout=folder", "--set", 'data.normal_dir="train/normal"',
         "--set", 'data.abnormal_dir="test/pneumonia"', "--set", 'data.normal_test_dir="test/normal"',
         "--set", "input.channels=1", "--set", "train.phase1_epochs=4", "--set", "train.round_epochs=2",
         "--set", "train.learning_rate=3e-4"],
    ),
}  # fmt: skip
TRAINER = ROOT / "target/release/salad-trainer"


def measure(name, seed, sets):
    """Trains one run and gives what `salad-trainer rounds` says of it."""
    _, args = DATA[name]
    out = ROOT / "target/label-free" / f"{name}-{seed}"
    shutil.rmtree(out, ignore_errors=True)
    out.parent.mkdir(parents=True, exist_ok=True)
    keys = [part for key in ROUNDS + sets for part in ("--set", key)]
    start = time.monotonic()
    train = [TRAINER, "train", *args, "--out", out, "--seed", str(seed), "--device", "cpu", "--threads", "1", *keys]
    subprocess.run(train, cwd=ROOT, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    said = subprocess.run([TRAINER, "rounds", out, "--json"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    return json.loads(said), time.monotonic() - start


def show(name, seed, compared, took):
    """Prints one run: its rounds, the correlations, and what each choice ends with."""
    aurocs = [r["test_auroc"] for r in compared["rounds"]]
    kept = ", ".join(f"{keep} {auroc:.4f}" for keep, auroc in compared["kept"])
    print(f"\n{name}, seed {seed} ({took:.0f} s): {kept}; of all rounds from {min(aurocs):.4f} to {max(aurocs):.4f}")
    print("  test AUROC      " + " ".join(f"{a:7.4f}" for a in aurocs))
    for figure in ("effective_rank", "made_up_auroc"):
        print(f"  {figure:<15} " + " ".join(f"{r['probe'][figure]:7.3f}" for r in compared["rounds"]))
    shown = (f"{figure} {'-' if found is None else format(found, '+.2f')}" for figure, found in compared["correlations"])
    print("  rank correlation with test AUROC: " + ", ".join(shown), flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(DATA))
    parser.add_argument("--seeds", default="1", help="separated by commas")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="another key of the recipe")
    wanted = parser.parse_args()
    if unknown := set(wanted.names) - set(DATA):
        parser.error(f"{', '.join(unknown)}: not among {', '.join(DATA)}")
    subprocess.run(["cargo", "build", "--release", "--locked", "--workspace", "--bin", "salad-trainer"], cwd=ROOT, check=True)
    for name in wanted.names or DATA:
        if not unpack(DATA[name][0]):
            print(f"{name}: skipped, {DATA[name][0]}.tar.gz is not in $SALAD_DATA or ../shared/data")
            continue
        for seed in wanted.seeds.split(","):
            show(name, seed, *measure(name, int(seed), wanted.set))


if __name__ == "__main__":
    main()
