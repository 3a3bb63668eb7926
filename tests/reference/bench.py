"""The trainer's speed beside the reference's: same pictures, recipe, threads and precision, in turn, in one run.

    bench.py TRAINER PICTURES [--rounds 3] [--seconds 10] [--at-least 1.3] [-- flags of `salad-trainer bench`]

Both load for themselves. The reference decodes its files anew each epoch in DataLoader workers, as PyTorch programs do; the
trainer decodes once and keeps the frames, as is its design. A second line has the reference keep its decoded pictures too.
Both have the settings of OpenMP and malloc that the trainer gives itself; a last line leaves PyTorch as it comes.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
# What the trainer sets for itself (trainer/src/device.rs).
SETTINGS = {
    "OMP_WAIT_POLICY": "passive",
    "MALLOC_MMAP_THRESHOLD_": "2000000000",
    "MALLOC_TRIM_THRESHOLD_": "4000000000",
}
PEERS = {
    "reference": ([], SETTINGS),
    "reference, pictures kept in memory": (["--keep"], SETTINGS),
    "reference, PyTorch's own settings": ([], {}),
}


def run(command, settings):
    env = {key: value for key, value in os.environ.items() if key not in SETTINGS} | settings
    result = subprocess.run(command, env=env, stdout=subprocess.PIPE, text=True)
    if result.returncode != 0:
        sys.exit(f"bench: {command[0]} failed")
    return json.loads(result.stdout)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("trainer", type=Path)
    parser.add_argument("pictures", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=10, help="of each measurement")
    parser.add_argument("--at-least", type=float, default=0, help="fail where the ratio to the reference is below this")
    end = sys.argv.index("--") if "--" in sys.argv else len(sys.argv)
    flags = sys.argv[end + 1 :]
    a = parser.parse_args(sys.argv[1:end])
    speeds, cpu = {}, {}

    def note(name, found):
        speeds.setdefault(name, []).append(found["images_per_second"])
        cpu.setdefault(name, []).append(found["images_per_cpu_second"])

    with tempfile.NamedTemporaryFile("w", suffix=".json") as report:
        for number in range(a.rounds):
            bench = [a.trainer, "bench", a.pictures, "--set", "data.validation_share=0.01", "--set", "data.layout=images"]
            found = run([*bench, "--seconds", str(3 * a.seconds), "--json", *flags], SETTINGS)
            note("trainer", found)
            report.seek(0)
            report.truncate()
            json.dump(found, report)
            report.flush()
            for name, (choice, settings) in PEERS.items():
                peer = [sys.executable, HERE / "speed.py", report.name, a.pictures, "--seconds", str(a.seconds), *choice]
                note(name, run(peer, settings))
            print(f"bench: round {number + 1} of {a.rounds}", file=sys.stderr)
    c = found["config"]
    print(f"bench: {c['network']['kind']} at {c['input']['size']}, {c['train']['batch_size']} images of "
          f"{c['train']['views']} views a step, {found['precision']} on {found['device']}, {found['threads']} threads, "
          f"{found['images']} pictures; medians of {a.rounds} rounds")
    for name, values in speeds.items():
        per_cpu = statistics.median(cpu[name])
        line = f"bench: {name:<35} {statistics.median(values):8.1f} images/s, {per_cpu:7.1f} a CPU second"
        if name != "trainer":
            ratios = [ours / theirs for ours, theirs in zip(speeds["trainer"], values)]
            line += (f"; trainer {statistics.median(ratios):.2f} times as fast ({min(ratios):.2f} to {max(ratios):.2f}), "
                     f"{statistics.median(cpu['trainer']) / per_cpu:.2f} by CPU time")
        print(line)
    ratio = statistics.median(ours / theirs for ours, theirs in zip(speeds["trainer"], speeds["reference"]))
    if ratio < a.at_least:
        sys.exit(f"bench: FAILED: {ratio:.2f} times as fast, and {a.at_least} was asked for")


if __name__ == "__main__":
    main()
