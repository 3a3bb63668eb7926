#!/usr/bin/env python3
"""Counts the instructions of a frame, for our encoder and tract's and for all the way from a JPEG to the verdict, as processors of
devices run them: on a machine with other work, where times say little, a count says whether a change was one.

    scripts/count_edge.py [--arch ARCH ...] [NAME=BUNDLE ...]      ARCH is amd64 or arm64; both, where none is named

qemu's user-mode emulation runs edge/examples/encode.rs and verdict.rs, and a plugin (count_instructions.c) counts. A frame's count
is the difference between a request for three frames and one for one, so that neither the start nor what reads and answers is in
it; it is the same each time, to a few instructions. Bundles are those of bench_edge.py. What is compared:

- salad int8: the bundle's int8 encoder on the kernel that this processor takes, which is named.
- tract int8: tract on the form that suits it best, symmetric signed values and one scale a weight tensor; where that has
  operators that tract does not know, on the bundle's int8 encoder.
- tract f32, which is Salad's f32.

The way to the verdict is that of a JPEG of 640 x 480, in int8; where no bundle is named with 4,096 prototypes.

Instructions are no times: one that multiplies 64 numbers counts as one that adds two, and waiting for memory not at all.
"""

import argparse
import os
import re
import subprocess
from pathlib import Path

import bench_edge
import bench_stages
import parity

ROOT = Path(__file__).resolve().parent.parent
OUT = ROOT / "target/count-edge"

# Of each architecture: its qemu, the number of the system call `read`, where the programs are, and processors with what tract has to
# be told.
ARM64_TARGET, ARM64_QEMU, ARM64_ROOT, ARM64 = parity.MACHINES["arm64"]
MACHINES = {
    "amd64": (["qemu-x86_64"], 0, ROOT / "target/release/examples", {
        "AVX2 (qemu has no AVX-512)": ("max", {}),
        "no AVX (Nehalem)": ("Nehalem", {}),
    }),
    # Debian's static qemu loads no plugin.
    "arm64": ([ARM64_QEMU.removesuffix("-static"), "-L", ARM64_ROOT], 63, ROOT / f"target/{ARM64_TARGET}/dist/examples",
              # With and without SDOT.
              {name: machine for name, machine in ARM64.items() if machine[0] in ("cortex-a76", "cortex-a53")}),
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--arch", action="append", choices=MACHINES)
    parser.add_argument("bundles", nargs="*", metavar="NAME=BUNDLE")
    arguments = parser.parse_args()
    bundles = bench_edge.bundles_of(arguments.bundles)
    encoders = {}
    for name, bundle in bundles.items():
        folder = bench_edge.unpack(name, bundle)
        spec = bench_edge.Spec(folder)
        print(f"\n{name}, {spec.flop / 1e9:.3f} GFLOP, millions of instructions a frame (their ratio to Salad's int8):")
        print(f"{'':36} {'Salad int8':>24} {'tract int8':>16} {'tract f32':>16}")
        for arch in arguments.arch or MACHINES:
            for processor, machine in MACHINES[arch][3].items():
                encoders[name, processor] = row(arch, processor, machine, folder, spec)
    photo = bench_stages.photo_of(bench_edge.pictures())
    if not arguments.bundles:
        bundles = {"edge-128": bench_stages.with_prototypes(bundles["edge-128"], bench_edge.OUT / "many.salad")}
    for name, bundle in bundles.items():
        print(f"\n{name}, from a JPEG of 640 x 480 to the verdict, in int8, millions of instructions (of all to those of the encoder):")
        print(f"{'':36} {'decode':>9} {'resize':>9} {'encode':>9} {'search and decide':>18} {'all':>16}")
        for arch in arguments.arch or MACHINES:
            for processor, machine in MACHINES[arch][3].items():
                verdict(arch, processor, machine, bundle, photo, encoders[name, processor])


def row(arch, processor, machine, folder, spec):
    def count(engine, model):
        return counted(arch, machine, ["encode", engine, folder / model, *spec.rust, "1"])

    kernel, ours = count("salad", "encoder.int8.onnx")
    try:
        _, int8 = count("tract", "symmetric.onnx")
    except Ended:
        _, int8 = count("tract", "encoder.int8.onnx")
    _, f32 = count("tract", "encoder.onnx")
    cells = [f"{ours / 1e6:.2f}  {kernel:>12}", *(f"{n / 1e6:.2f} ({n / ours:.2f})" for n in (int8, f32))]
    print(f"{arch + ', ' + processor:36} {cells[0]:>24} {cells[1]:>16} {cells[2]:>16}", flush=True)
    return ours


def verdict(arch, processor, machine, bundle, photo, encoder):
    decoded, resized, whole = (counted(arch, machine, ["verdict", end, bundle, photo])[1] for end in ("decode", "resize", "frame"))
    parts = (decoded, resized - decoded, encoder, whole - resized - encoder)
    cells = " ".join(f"{part / 1e6:{width}.2f}" for part, width in zip(parts, (9, 9, 9, 18)))
    print(f"{arch + ', ' + processor:36} {cells} {f'{whole / 1e6:.2f} ({whole / encoder:.2f})':>16}", flush=True)


class Ended(Exception):
    """The program ended in place of a count."""


def counted(arch, machine, example):
    """What runs the encoder, and the instructions of a frame. `example` is the program's name and what it is called with."""
    qemu, read, programs, _ = MACHINES[arch]
    processor, environment = machine
    program, *rest = example
    command = [*qemu, "-cpu", processor, "-plugin", f"{plugin(qemu[0])},read={read}", programs / program, *rest]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, env=os.environ | environment, text=True, **pipes) as child:
        engine = ""
        counts = []

        def wait():
            nonlocal engine
            for line in child.stderr:
                if line.startswith("count "):
                    return counts.append(int(line.split()[1]))
                engine = engine or line.split(":", 1)[-1].strip()
            raise Ended(f"{' '.join(map(str, command))}: ended: {engine}")

        wait()
        for frames in (1, 1, 3):
            child.stdin.write(f"{frames}\n")
            child.stdin.flush()
            wait()
        child.stdin.close()
    once, thrice = counts[2] - counts[1], counts[3] - counts[2]
    return engine, (thrice - once) / 2


def plugin(qemu):
    """Compiled for the qemu that is installed: from 9 on it asks for version 2 of the interface or newer."""
    said = subprocess.run([qemu, "--version"], check=True, stdout=subprocess.PIPE, text=True).stdout
    version = 1 if int(re.search(r"version (\d+)", said)[1]) < 9 else 2
    library = OUT / f"libcount{version}.so"
    source = ROOT / "scripts/count_instructions.c"
    if not library.exists() or library.stat().st_mtime < source.stat().st_mtime:
        OUT.mkdir(parents=True, exist_ok=True)
        subprocess.run(["gcc", "-O2", "-shared", "-fPIC", f"-DVERSION={version}", source, "-o", library], check=True)
    return library


if __name__ == "__main__":
    try:
        main()
    except Ended as ended:
        raise SystemExit(f"count_edge: {ended}") from None
