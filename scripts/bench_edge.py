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
- rten f32 (tests/peers).

The figures: the median time of a frame, its ratio to onnxruntime's int8 (the median over rounds of ratios within a round),
GFLOP/s, the cosine of the embedding to f32's, and the most memory that was resident. With all threads, salad and tract encode as
many frames side by side, onnxruntime and rten split each: the time is that of a run divided by its frames.

Then, with one thread, each of our kernels that this processor has, as if it had no better one, beside our f32, and what `--form
auto` takes there. The f32 beside them keeps all instructions, so int8 has to win against more than such a processor has.

Last, from a frame to the verdict by stage, the time from the program's start to its first score, and memory, of `edge` with 4,096
prototypes, or of the bundles given.
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

import bench_stages

ROOT = Path(__file__).resolve().parent.parent
OUT = ROOT / "target/bench-edge"
FRAMES = 10
WARM_UP = 3
# A turn that takes longer has fewer frames.
SLOW_US = 500_000
ENCODE = ROOT / "target/release/examples/encode"
TRAINER = ROOT / "target/release/salad-trainer"
NETWORKS = {"edge-128": [], "unet-256": ["network.kind=unet", "network.embedding_dim=200", "input.size=256"]}
SHORT = ["train.phase1_epochs=1", "train.round_epochs=1", "train.rate=1.0", "data.validation_share=0.2"]
PICTURES = 40


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("bundles", nargs="*", metavar="NAME=BUNDLE")
    arguments = parser.parse_args()
    bundles = bundles_of(arguments.bundles)
    photo = bench_stages.photo_of(pictures())
    for name, bundle in bundles.items():
        folder = unpack(name, bundle)
        for threads in sorted({1, os.cpu_count()}):
            compare(name, folder, threads, arguments.rounds)
        kernels(name, bundle, folder, photo, arguments.rounds)
    if not arguments.bundles:
        bundles = {"edge-128": bench_stages.with_prototypes(bundles["edge-128"], OUT / "many.salad")}
    for name, bundle in bundles.items():
        bench_stages.stages(name, bundle, photo)


def bundles_of(given):
    """Bundles by name: those given as NAME=BUNDLE, or what is trained where there are none."""
    named = dict(bundle.split("=", 1) for bundle in given)
    return {n: Path(b) for n, b in named.items()} or {name: train(name, sets) for name, sets in NETWORKS.items()}


class Spec:
    """What a bundle's manifest says of its encoder."""

    def __init__(self, folder):
        manifest = json.loads((folder / "manifest.json").read_text())
        self.flop = manifest["encoder"]["flop"]
        # What edge/examples/encode.rs is told: side, channels, embedding's length.
        shape = (manifest["input"]["width"], manifest["input"]["channels"], manifest["encoder"]["embedding_dim"])
        self.rust = [str(part) for part in shape]


def pictures():
    """A folder with some of the demo's pictures."""
    folder = OUT / "pictures"
    if not folder.exists():
        subprocess.run([TRAINER, "demo-scene", OUT / "scene"], check=True, stdout=subprocess.DEVNULL)
        folder.mkdir(parents=True)
        for picture in sorted((OUT / "scene/train/good").iterdir())[:PICTURES]:
            shutil.copy(picture, folder)
    return folder


def train(name, sets):
    """A bundle of a network that was trained for a moment."""
    run = OUT / name
    shutil.rmtree(run, ignore_errors=True)
    keys = [part for key in sets + SHORT for part in ("--set", key)]
    command = [TRAINER, "train", pictures(), "--name", name, *keys, "--out", run]
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
    spec = Spec(folder)
    rust = [*spec.rust, str(threads)]
    workers = {
        "salad int8": [ENCODE, "salad", folder / "encoder.int8.onnx", *rust],
        "salad f32 (tract)": [ENCODE, "tract", folder / "encoder.onnx", *rust],
        "tract int8": [ENCODE, "tract", folder / "encoder.int8.onnx", *rust],
        "tract int8, its best form": [ENCODE, "tract", folder / "symmetric.onnx", *rust],
        "onnxruntime f32": [sys.executable, __file__, "--worker", folder / "encoder.onnx", str(threads)],
    }
    for form in sorted(folder.glob("peer-*.onnx")):
        workers[f"onnxruntime int8, {form.stem[5:]}"] = [sys.executable, __file__, "--worker", form, str(threads)]
    workers = {peer: Worker(command) for peer, command in workers.items()}
    rten = [ROOT / "target/peers/release/salad-peers", folder / "encoder.onnx", *spec.rust[:2]]
    workers["rten f32"] = Worker(rten, {"RTEN_NUM_THREADS": str(threads)})
    times = interleaved(workers, FRAMES * (1 if threads == 1 else 5), rounds)
    medians = {peer: statistics.median(t) for peer, t in times.items()}
    forms = [peer for peer in medians if peer.startswith("onnxruntime int8")]
    best = min(forms, key=medians.get)
    exact = workers["salad f32 (tract)"].embedding()
    print(f"\n{name}, {spec.flop / 1e9:.3f} GFLOP, {threads} thread{'s'[: threads > 1]}:")
    print(f"{'':40} {'us a frame':>10} {'ratio':>6} {'GFLOP/s':>8} {'cosine':>8} {'MB':>6}")
    for peer in times:
        if peer in forms and peer != best:
            continue
        ratio = statistics.median(a / b for a, b in zip(times[peer], times[best]))
        cosine = sum(a * b for a, b in zip(exact, workers[peer].embedding()))
        memory = workers[peer].peak_mb()
        print(f"{peer:40} {medians[peer]:10.1f} {ratio:6.2f} {spec.flop / medians[peer] / 1e3:8.1f} {cosine:8.5f} {memory:6.0f}", flush=True)
    end(workers)


def kernels(name, bundle, folder, photo, rounds):
    """Each kernel of ours beside our f32."""
    rust = [*Spec(folder).rust, "1"]
    names = subprocess.run([ENCODE, "kernels"], check=True, stdout=subprocess.PIPE, text=True).stdout.split()
    int8 = [ENCODE, "salad", folder / "encoder.int8.onnx", *rust]
    workers = {kernel: Worker(int8, {"SALAD_KERNEL": kernel}) for kernel in names}
    workers["f32 (tract)"] = f32 = Worker([ENCODE, "tract", folder / "encoder.onnx", *rust])
    times = interleaved(workers, FRAMES, rounds)
    print(f"\n{name}, 1 thread, as if this processor had nothing better:")
    print(f"{'':40} {'us a frame':>10} {'to f32':>6}   --form auto takes")
    for kernel, worker in workers.items():
        ratio = statistics.median(a / b for a, b in zip(times[kernel], times["f32 (tract)"]))
        takes = "" if worker is f32 else bench_stages.auto(bundle, photo, {"SALAD_KERNEL": kernel})
        print(f"{kernel:40} {statistics.median(times[kernel]):10.1f} {ratio:6.2f}   {takes}", flush=True)
    end(workers)


def interleaved(workers, frames, rounds):
    """For each of those that can run its model the median time of a frame in each round, microseconds, in turns. The slowest get
    fewer frames."""
    times = {peer: [] for peer in workers if worker_runs(workers[peer])}
    some = {peer: max(1, min(frames, int(SLOW_US / workers[peer].times(1)))) for peer in times}
    for _ in range(rounds):
        for peer in times:
            times[peer].append(workers[peer].times(some[peer]))
    return times


def end(workers):
    for worker in workers.values():
        worker.process.kill()
        worker.process.wait()


def worker_runs(worker):
    """Whether it can run its model; tract takes no graph with a form of an operator that it does not know. It fills caches, too, and
    tables that are made when they are first used."""
    try:
        worker.times(WARM_UP)
    except BrokenPipeError:
        return False
    return worker.process.poll() is None


class Worker:
    """A process that encodes on request."""

    def __init__(self, command, environment=None):
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
        self.process = subprocess.Popen(command, env=os.environ | (environment or {}), text=True, **pipes)

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
