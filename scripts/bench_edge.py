#!/usr/bin/env python3
"""Times the edge encoder beside its peers, in turns in one run: the same network, the same picture, one thread and all.

    scripts/bench_edge.py [--rounds 20] [NAME=BUNDLE ...]

Without bundles, `edge` at 128 and `unet` at 256 pixels are trained for a moment on the demo's pictures: what they have learned
does not matter for times. The peers, each in a process of its own:

- salad int8: the bundle's int8 encoder on our kernels; SALAD_KERNEL names another one than the best.
- salad f32: the bundle's f32 encoder, which tract runs.
- tract int8: tract on the bundle's int8 encoder, and on the form that suits it best, symmetric signed values and one scale a
  weight tensor, as onnxruntime's quantizer makes it.
- onnxruntime f32, and int8 as its own static quantizer makes it (uint8 values, int8 weights): the fastest of four forms.

The figures: the median time of a frame, its ratio to onnxruntime's int8 (the median over rounds of ratios within a round),
GFLOP/s, the cosine of the embedding to f32's, and the most memory that was resident. With all threads, salad and tract encode as
many frames side by side, onnxruntime splits each: the time is that of a run divided by its frames.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tarfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
OUT = ROOT / "target/bench-edge"
FRAMES = 10
NETWORKS = {"edge-128": [], "unet-256": ["network.kind=unet", "network.embedding_dim=200", "input.size=256"]}
SHORT = ["train.phase1_epochs=1", "train.round_epochs=1", "train.rate=1.0", "data.validation_share=0.2"]
PICTURES = 40


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("bundles", nargs="*", metavar="NAME=BUNDLE")
    arguments = parser.parse_args()
    given = dict(bundle.split("=", 1) for bundle in arguments.bundles)
    for name, bundle in (given or {name: train(name, sets) for name, sets in NETWORKS.items()}).items():
        folder = unpack(name, Path(bundle))
        for threads in sorted({1, os.cpu_count()}):
            compare(name, folder, threads, arguments.rounds)


def train(name, sets):
    """A bundle of a network that was trained for a moment."""
    trainer = ROOT / "target/release/salad-trainer"
    pictures, run = OUT / "pictures", OUT / name
    if not pictures.exists():
        subprocess.run([trainer, "demo-scene", OUT / "scene"], check=True, stdout=subprocess.DEVNULL)
        pictures.mkdir(parents=True)
        for picture in sorted((OUT / "scene/train/good").iterdir())[:PICTURES]:
            shutil.copy(picture, pictures)
    shutil.rmtree(run, ignore_errors=True)
    keys = [part for key in sets + SHORT for part in ("--set", key)]
    command = [trainer, "train", pictures, "--name", name, *keys, "--out", run]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return run / f"{name}.salad"


def unpack(name, bundle):
    folder = OUT / f"{name}-parts"
    shutil.rmtree(folder, ignore_errors=True)
    with tarfile.open(bundle) as tar:
        tar.extractall(folder, [member for member in tar if "/" not in member.name])
    subprocess.run([sys.executable, __file__, "--quantize", folder], check=True)
    return folder


def compare(name, folder, threads, rounds):
    manifest = json.loads((folder / "manifest.json").read_text())
    side, channels, dim = manifest["input"]["width"], manifest["input"]["channels"], manifest["encoder"]["embedding_dim"]
    flop = manifest["encoder"]["flop"]
    encode = ROOT / "target/release/examples/encode"
    rust = [str(part) for part in (side, channels, dim, threads)]
    workers = {
        "salad int8": [encode, "salad", folder / "encoder.int8.onnx", *rust],
        "salad f32 (tract)": [encode, "tract", folder / "encoder.onnx", *rust],
        "tract int8": [encode, "tract", folder / "encoder.int8.onnx", *rust],
        "tract int8, its best form": [encode, "tract", folder / "symmetric.onnx", *rust],
        "onnxruntime f32": [sys.executable, __file__, "--worker", folder / "encoder.onnx", str(threads)],
    }
    for form in sorted(folder.glob("peer-*.onnx")):
        workers[f"onnxruntime int8, {form.stem[5:]}"] = [sys.executable, __file__, "--worker", form, str(threads)]
    workers = {peer: Worker(command) for peer, command in workers.items()}
    # Caches, and tables that are made when they are first used.
    times = {peer: [] for peer in workers if worker_runs(workers[peer])}
    for _ in range(rounds):
        for peer in times:
            times[peer].append(workers[peer].times(FRAMES * (1 if threads == 1 else 5)))
    medians = {peer: statistics.median(t) for peer, t in times.items()}
    forms = [peer for peer in medians if peer.startswith("onnxruntime int8")]
    best = min(forms, key=medians.get)
    exact = workers["salad f32 (tract)"].embedding()
    print(f"\n{name}, {flop / 1e9:.3f} GFLOP, {threads} thread{'s'[: threads > 1]}:")
    print(f"{'':40} {'us a frame':>10} {'ratio':>6} {'GFLOP/s':>8} {'cosine':>8} {'MB':>6}")
    for peer in times:
        if peer in forms and peer != best:
            continue
        ratio = statistics.median(a / b for a, b in zip(times[peer], times[best]))
        cosine = sum(a * b for a, b in zip(exact, workers[peer].embedding()))
        memory = workers[peer].peak_mb()
        print(f"{peer:40} {medians[peer]:10.1f} {ratio:6.2f} {flop / medians[peer] / 1e3:8.1f} {cosine:8.5f} {memory:6.0f}", flush=True)
    for worker in workers.values():
        worker.process.kill()
        worker.process.wait()


def worker_runs(worker):
    """Whether it can run its model; tract takes no graph with a form of an operator that it does not know."""
    try:
        worker.times(FRAMES)
    except BrokenPipeError:
        return False
    return worker.process.poll() is None


class Worker:
    """A process that encodes on request."""

    def __init__(self, command):
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)

    def asked(self, line):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline().split()
        if not answer:
            self.process.wait()
            raise BrokenPipeError
        return [float(value) for value in answer]

    def times(self, frames):
        """The median time of a frame, microseconds."""
        return statistics.median(self.asked(str(frames)))

    def embedding(self):
        return self.asked("z")

    def peak_mb(self):
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) / 1e3


def picture(side):
    """The picture that edge/examples/encode.rs takes: bytes, rows of RGB."""
    import numpy as np

    at = np.arange(3 * side * side, dtype=np.uint32)
    return (at * np.uint32(7919) % 256).astype(np.uint8).reshape(side, side, 3)


def normalised(rgb, channels):
    """As shared/src/preprocess.rs does it."""
    import numpy as np

    image = rgb.astype(np.float32)
    if channels == 1:
        image = image @ np.array([[0.299], [0.587], [0.114]], np.float32)
    return (image.transpose(2, 0, 1) / np.float32(127.5) - np.float32(1))[None]


def work(model, threads):
    """onnxruntime's side."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads, options.log_severity_level = threads, 1, 3
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    _, channels, side, _ = session.get_inputs()[0].shape
    image = {"image": normalised(picture(side), channels)}
    for line in sys.stdin:
        if line.strip() == "z":
            print(*session.run(None, image)[0].ravel(), flush=True)
            continue
        times = []
        for _ in range(int(line)):
            start = time.perf_counter()
            session.run(None, image)
            times.append((time.perf_counter() - start) * 1e6)
        print(*times, flush=True)


def quantize(folder):
    """Writes what onnxruntime's own quantizer makes of encoder.onnx."""
    import logging

    import numpy as np
    import onnx
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    logging.disable(logging.WARNING)
    model = folder / "encoder.onnx"
    _, channels, side, _ = (d.dim_value for d in onnx.load(model).graph.input[0].type.tensor_type.shape.dim)
    rng = np.random.default_rng(1)

    class Pictures(CalibrationDataReader):
        def __init__(self):
            coarse = rng.integers(0, 256, (16, 8, 8, 3), dtype=np.uint8)
            self.images = iter(normalised(c.repeat(side // 8, 0).repeat(side // 8, 1), channels) for c in coarse)

        def get_next(self):
            image = next(self.images, None)
            return None if image is None else {"image": image}

    uint8 = {"activation_type": QuantType.QUInt8, "weight_type": QuantType.QInt8}
    for form in (QuantFormat.QDQ, QuantFormat.QOperator):
        for per_channel in (False, True):
            name = f"peer-{form.name} {'per channel' if per_channel else 'per tensor'}.onnx"
            quantize_static(model, folder / name, Pictures(), quant_format=form, per_channel=per_channel, **uint8)
    quantize_static(
        model,
        folder / "symmetric.onnx",
        Pictures(),
        quant_format=QuantFormat.QOperator,
        activation_type=QuantType.QInt8,
        weight_type=QuantType.QInt8,
        extra_options={"ActivationSymmetric": True, "WeightSymmetric": True},
    )


if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]:
        work(sys.argv[2], int(sys.argv[3]))
    elif sys.argv[1:2] == ["--quantize"]:
        quantize(Path(sys.argv[2]))
    else:
        main()
