#!/usr/bin/env python3
"""How large salad-edge is for each processor, how long it takes from its start to the first score, and how much memory.

    scripts/edge_figures.py [BUNDLE PICTURE...]     what the README says, for one bundle (that of edge/examples/parity.rs)

Sizes are of what has been built and packaged under target/. Times and memory are of the amd64 program on this machine:
emulation says nothing about them. Each is the median of five starts, with one thread.
"""

import argparse
import os
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TARGETS = {
    "arm64": "aarch64-unknown-linux-gnu",
    "armhf": "armv7-unknown-linux-gnueabihf",
    "amd64": "x86_64-unknown-linux-gnu",
}
STARTS = 5


def first_score(program, bundle, pictures, form):
    """Seconds from the start to the first line, and the most memory that was ever resident, MB."""
    start = time.monotonic()
    command = [program, "score", bundle, *pictures, "--form", form, "--threads", "1"]
    child = subprocess.Popen(command, stdout=subprocess.PIPE)
    line = child.stdout.readline()
    seconds = time.monotonic() - start
    child.stdout.read()
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode or not line:
        raise SystemExit(f"edge_figures: {program} failed")
    return seconds, usage.ru_maxrss * 1024 / 1e6


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("bundle", nargs="?", type=Path)
    parser.add_argument("pictures", nargs="*", type=Path)
    arguments = parser.parse_args()

    for arch, target in TARGETS.items():
        program = ROOT / "target" / target / "dist/salad-edge"
        if program.exists():
            files = [program, *ROOT.glob(f"target/deb/*_{arch}.deb")]
            print(f"{arch}:", ", ".join(f"{file.name} {file.stat().st_size / 1e6:.1f} MB" for file in files))

    program = ROOT / "target" / TARGETS["amd64"] / "dist/salad-edge"
    with tempfile.TemporaryDirectory() as folder:
        bundle, pictures = arguments.bundle, arguments.pictures
        if not bundle:
            draw = ["cargo", "build", "--quiet", "--release", "--locked", "--workspace", "--example", "parity"]
            subprocess.run(draw, cwd=ROOT, check=True)
            subprocess.run([ROOT / "target/release/examples/parity", folder], check=True)
            bundle, pictures = Path(folder) / "drawn.salad", [Path(folder) / "pictures"]
        for form in ("f32", "int8"):
            seconds, megabytes = zip(*(first_score(program, bundle, pictures, form) for _ in range(STARTS)))
            print(f"{bundle.name}, {form}: first score after {1000 * statistics.median(seconds):.0f} ms, at most "
                  f"{statistics.median(megabytes):.0f} MB resident")


if __name__ == "__main__":
    main()
