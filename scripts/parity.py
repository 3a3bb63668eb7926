#!/usr/bin/env python3
"""Whether salad-edge for ARM scores as the program for this machine does. The ARM program runs under qemu's user-mode
emulation, once for each kind of processor that takes other kernels.

    scripts/parity.py ARCH [BUNDLE PICTURES...]     ARCH is arm64 or armhf

Without a bundle, the one that edge/examples/parity.rs draws is taken, and the demo's too where `make demo` has made it.
Twenty pictures are scored in both forms, and must agree:

- f32: to 1e-4 in the score.
- int8: similarities to the bit. Only the arc cosine is the C library's own, so that a score may differ in its last digits.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PICTURES = 20
SCORE_TOLERANCE = 1e-4

# Of each architecture: Rust's target, qemu, the C library's place, and its processors with what tract has to be told of
# them, because qemu shows this machine's /proc/cpuinfo and not theirs.
MACHINES = {
    "arm64": ("aarch64-unknown-linux-gnu", "qemu-aarch64-static", "/usr/aarch64-linux-gnu", {
        "cortex-a53 (Raspberry Pi 3)": ("cortex-a53", {"TRACT_CPU_AARCH64_KIND": "a53"}),
        "cortex-a72 (Raspberry Pi 4)": ("cortex-a72", {"TRACT_CPU_AARCH64_KIND": "a72"}),
        # Has SDOT.
        "cortex-a76 (Raspberry Pi 5)": ("cortex-a76", {}),
    }),
    "armhf": ("armv7-unknown-linux-gnueabihf", "qemu-arm-static", "/usr/arm-linux-gnueabihf", {
        "cortex-a7 (NEON)": ("cortex-a7", {"TRACT_CPU_ARM32_NEON": "true"}),
    }),
}


def scored(program, bundle, pictures, form, environment):
    """What the program says of each picture."""
    command = [*program, "score", bundle, *pictures, "--form", form, "--threads", "1", "--json"]
    lines = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=os.environ | environment).stdout
    return [json.loads(line) for line in lines.splitlines()]


def some(paths):
    """Twenty pictures, evenly from all there are."""
    found = sorted(f for p in paths for f in ([p] if p.is_file() else p.rglob("*")) if f.suffix.lower() in {".jpg", ".jpeg", ".png"})
    if len(found) < PICTURES:
        sys.exit(f"parity: {len(found)} pictures in {', '.join(map(str, paths))}, and {PICTURES} are needed")
    return [found[i * len(found) // PICTURES] for i in range(PICTURES)]


def cases(arguments, folder):
    """Bundles, and the pictures for each."""
    if arguments.bundle:
        return [(arguments.bundle, some(arguments.pictures))]
    subprocess.run([ROOT / "target/release/examples/parity", folder], check=True)
    found = [(folder / "drawn.salad", some([folder / "pictures"]))]
    demo = ROOT / "target/demo"
    found += [(bundle, some([demo / "scene/stream"])) for bundle in sorted(demo.glob("run/*.salad"))]
    return found


def compare(native, program, machine, environment, bundle, pictures):
    """Prints how both forms compare; whether they agree."""
    agree = True
    for form in ("f32", "int8"):
        here = scored(native, bundle, pictures, form, {})
        there = scored(program, bundle, pictures, form, environment)
        pairs = list(zip(here, there, strict=True))
        differences = [abs(a["score"] - b["score"]) for a, b in pairs]
        good = len(pairs) == len(pictures) and max(differences) <= SCORE_TOLERANCE
        if form == "int8":
            good &= all(a["nearest"] == b["nearest"] for a, b in pairs)
        agree &= good
        equal = sum(difference == 0 for difference in differences)
        print(f"{bundle.name}, {form}, {machine}: {equal} of {len(pairs)} scores equal to the bit, largest difference "
              f"{max(differences):.1e}" + ("" if good else ": DIFFERENT"))
    return agree


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("arch", choices=MACHINES)
    parser.add_argument("bundle", nargs="?", type=Path)
    parser.add_argument("pictures", nargs="*", type=Path)
    arguments = parser.parse_args()

    subprocess.run([ROOT / "scripts/setup.sh", "packages", "emulation"], check=True)
    subprocess.run([ROOT / "scripts/edge-cross.sh", arguments.arch], check=True)
    cargo = ["cargo", "build", "--quiet", "--release", "--locked", "--workspace"]
    subprocess.run([*cargo, "--bin", "salad-edge", "--example", "parity"], cwd=ROOT, check=True)
    target, qemu, libraries, machines = MACHINES[arguments.arch]
    native = [ROOT / "target/release/salad-edge"]
    agree = True
    with tempfile.TemporaryDirectory() as folder:
        for bundle, pictures in cases(arguments, Path(folder)):
            for machine, (processor, environment) in machines.items():
                program = [qemu, "-cpu", processor, "-L", libraries, ROOT / f"target/{target}/dist/salad-edge"]
                agree &= compare(native, program, machine, environment, bundle, pictures)
    if not agree:
        sys.exit("parity: scores differ")


if __name__ == "__main__":
    main()
