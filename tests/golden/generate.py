#!/usr/bin/env python3
"""Golden values of the method for `cargo test -p salad-trainer golden`, in NumPy and float64.

    python3 tests/golden/generate.py --seed 7 --rows 40 --dim 12 > tests/golden/seed7.json
    python3 tests/golden/generate.py --check tests/golden/seed7.json

This is a second, independent writing of the formulas, plain and slow on purpose: one image at a time, no blocks. The
values are those of NumPy 2; another NumPy may draw other inputs, and --check then still holds, because it computes
every result again from the inputs that stand in the file.

n bank rows, d dimensions, b images in the batch, whose rows of the bank are `index`. Rounds are numbered from 0 (no
prototypical image) to 1 / rate (all of them). `neighbours_of_first_prototypical` belongs to the image of lowest entropy.
The gradient is that of loss_sample_specific + loss_aggregation by z, with no weight and z not normalised again.
"""

import argparse
import json
import math
import sys

import numpy as np

WHAT = "tests/golden/generate.py: float64; losses are means over the whole batch; entropies in nats"
INPUTS = ("tau", "t", "k", "rate", "score_k", "bank", "index", "z")
TOLERANCE = 1e-12
# Looser, so that a file whose gradient was found by finite differences can be checked too.
GRADIENT_TOLERANCE = 1e-9


def unit(rows):
    """Rows of length 1, [.., d]."""
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def draw(seed, rows, dim, batch):
    """Inputs: a bank in loose clusters, so that entropies and neighbourhoods differ, and a batch near its own rows."""
    rng = np.random.default_rng(seed)
    centres = unit(rng.normal(size=(max(2, rows // 8), dim)))
    spread = rng.uniform(0.1, 0.4, size=(rows, 1))
    bank = unit(centres[rng.integers(len(centres), size=rows)] + spread * rng.normal(size=(rows, dim)))
    index = rng.permutation(rows)[:batch]
    z = unit(bank[index] + 0.2 * rng.normal(size=(batch, dim)))
    return {
        "tau": 0.1, "t": 0.5, "k": 4, "rate": 0.2, "score_k": 6,
        "bank": bank.tolist(), "index": index.tolist(), "z": z.tolist(),
    }  # fmt: skip


def log_p(z, bank, tau):
    """log p_ij of one embedding over the bank, [n]."""
    logits = bank @ z / tau
    top = logits.max()
    return logits - (top + math.log(np.exp(logits - top).sum()))


def entropy(row, bank, tau):
    """H_i of one bank row."""
    logs = log_p(row, bank, tau)
    return float(-(np.exp(logs) * logs).sum())


def neighbours(i, bank, k):
    """N_k of bank row i, most similar first, i itself left out."""
    order = sorted((j for j in range(len(bank)) if j != i), key=lambda j: (-float(bank[j] @ bank[i]), j))
    return order[:k]


def loss_and_gradient(z, members, bank, tau):
    """-log of the probability that falls on `members`, and its gradient by z, [d]."""
    logs = log_p(z, bank, tau)
    p = np.exp(logs)
    within = logs[members]
    top = within.max()
    log_mass = top + math.log(np.exp(within - top).sum())
    share = np.exp(within - log_mass)
    return -log_mass, (p @ bank - share @ bank[members]) / tau


def one_round(r, given, bank, z, order):
    """Selection, losses and gradient of round r; `order` holds the images by entropy, lowest first."""
    n, b = len(bank), len(z)
    # The product is rounded first: 3 * 0.1 * 10 is below 3 in floating point for some rates.
    count = math.floor(round(r * given["rate"] * n, 9))
    prototypical = order[:count]
    chosen = set(prototypical)
    specific = aggregation = 0.0
    gradient = np.zeros_like(z)
    for row, i in enumerate(given["index"]):
        members = neighbours(i, bank, given["k"]) + [i] if i in chosen else [i]
        loss, slope = loss_and_gradient(z[row], members, bank, given["tau"])
        gradient[row] = slope / b
        if i in chosen:
            aggregation += loss / b
        else:
            specific += loss / b
    return {
        "prototypical": sorted(prototypical),
        "loss_sample_specific": specific,
        "loss_aggregation": aggregation,
        "neighbours_of_first_prototypical": neighbours(order[0], bank, given["k"]) if prototypical else [],
    }, gradient


def results(given):
    """Everything that follows from the inputs."""
    bank, z = np.array(given["bank"]), np.array(given["z"])
    entropies = [entropy(row, bank, given["tau"]) for row in bank]
    order = sorted(range(len(bank)), key=lambda i: (entropies[i], i))
    last = round(1 / given["rate"])
    rounds = {r: one_round(r, given, bank, z, order) for r in range(last + 1)}
    updated = bank.copy()
    for row, i in enumerate(given["index"]):
        updated[i] = unit((1 - given["t"]) * bank[i] + given["t"] * z[row])

    angular, weighted, nearest = [], [], []
    for embedding in z:
        top = np.sort(bank @ embedding)[::-1][: given["score_k"]]
        angles = np.arccos(np.clip(top, -1, 1)) / math.pi
        weights = np.exp((top - top[0]) / given["tau"])
        angular.append(float(angles.mean()))
        weighted.append(float(1 - weights / weights.sum() @ top))
        nearest.append(float(angles[0]))
    return {
        "entropy": entropies,
        "rounds": {str(r): values for r, (values, _) in rounds.items()},
        "grad_z_of_total_at_round_3": rounds[3][1].tolist(),
        "bank_after_update": updated.tolist(),
        "score_angular_mean": angular,
        "score_weighted": weighted,
        "score_nearest_angular": nearest,
    }


def difference(a, b):
    """The largest difference between two results; whole numbers and shapes have to be equal."""
    if isinstance(a, dict):
        if a.keys() != b.keys():
            return math.inf
        return max((difference(a[key], b[key]) for key in a), default=0.0)
    if isinstance(a, list):
        if len(a) != len(b):
            return math.inf
        return max((difference(x, y) for x, y in zip(a, b)), default=0.0)
    if isinstance(a, int):
        return 0.0 if a == b else math.inf
    return abs(a - b)


def check(path):
    """Compares a file's results with those computed from its inputs; says so, and whether they agree."""
    with open(path, encoding="utf-8") as file:
        golden = json.load(file)
    worst = {}
    for key, value in results({key: golden[key] for key in INPUTS}).items():
        worst[key] = float(difference(value, golden.get(key, {} if isinstance(value, dict) else [])))
    agrees = all(w <= (GRADIENT_TOLERANCE if key.startswith("grad") else TOLERANCE) for key, w in worst.items())
    print(f"{path}: {'agrees' if agrees else 'DIFFERS'}; largest differences {worst}")
    return agrees


def main():
    """Draws a new file to standard output, or checks some."""
    parser = argparse.ArgumentParser(description="golden values of the method")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--rows", type=int, default=40)
    parser.add_argument("--dim", type=int, default=12)
    parser.add_argument("--batch", type=int, default=10)
    parser.add_argument("--check", nargs="+", metavar="FILE", help="check these files instead")
    args = parser.parse_args()
    if args.check:
        sys.exit(0 if all([check(path) for path in args.check]) else 1)
    given = draw(args.seed, args.rows, args.dim, args.batch)
    json.dump({"what": WHAT, "seed": args.seed, **given, **results(given)}, sys.stdout, indent=1)
    print()


if __name__ == "__main__":
    main()
