#!/usr/bin/env python3
"""What "this is normal" does to real anomalies: a clip's test frames, each run of anomalous ones between normal ones, are played
to salad-edge; then each event is enrolled by itself, the same frames are played again, and it is taken back. Standard library.

    tests/alerts/enrolled.py [--clip person]

For each event: whether it comes again, how many of the others still do, AUROC of all other test frames before and after, and
whether the scores after the undoing are the former ones to the last bit.
"""

import argparse
import json
import pathlib
import shutil
import subprocess
import sys

from false_alarms import EDGE, OUT, RATES, ROOT

sys.path.insert(0, str(ROOT / "scripts"))
from measure import auroc, unpack  # noqa: E402

# Normal frames before each run of anomalous ones.
CALM = 20
FPS = 5


def runs_of(clip):
    """The clip's anomalous test frames, run by run, and its normal ones."""
    folder = ROOT / f"target/data/intel_fixedcam/{clip}"
    runs, last = [], None
    for picture in sorted((folder / "test/defect").iterdir()):
        number = int("".join(filter(str.isdigit, picture.stem)))
        if last is None or number - last > RATES[clip]:
            runs.append([])
        runs[-1].append(picture)
        last = number
    return runs, sorted((folder / "test/good").iterdir())


def play(folder):
    """Scores by frame, and the first frame and id of each event."""
    log = folder / "events.jsonl"
    log.unlink(missing_ok=True)
    command = [EDGE, "run", "--config", folder / "edge.toml", "--json"]
    said = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True, text=True).stdout
    lines = [json.loads(line) for line in said.splitlines()]
    events = [json.loads(line) for line in log.read_text().splitlines()]
    begun = [event for event in events if event["kind"] == "new" and "trouble" not in event]
    return {line["frame"]: line["score"] for line in lines}, begun


def enrol(folder, *arguments):
    command = [EDGE, "enrol", "--config", folder / "edge.toml", *arguments]
    return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True, text=True).stdout


def trial(clip, bundle):
    runs, good = runs_of(clip)
    folder = OUT / f"{clip}-enrolled"
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "frames").mkdir(parents=True)
    names = []  # the run of each frame, None for a normal one
    for number, run in enumerate(runs):
        calm = [good[(number * CALM + i) % len(good)] for i in range(CALM)]
        for picture, of in [(picture, None) for picture in calm] + [(picture, number) for picture in run]:
            (folder / f"frames/{len(names):05}.jpg").symlink_to(picture)
            names.append(of)
    (folder / "edge.toml").write_text(
        f'bundle = "{bundle}"\nform = "int8"\n[source]\nreplay = {{ path = "frames", fps = {FPS}, pace = "fast" }}\n'
        '[events]\nlog = "events.jsonl"\nstore = "events.db"\n',
        encoding="utf-8",
    )
    label = {f"{i:05}.jpg": run for i, run in enumerate(names)}

    def measured(scores, without):
        normal = [score for frame, score in scores.items() if label[pathlib.Path(frame).name] is None]
        other = [s for frame, s in scores.items() if label[pathlib.Path(frame).name] not in (None, without)]
        return auroc(normal, other) if other else float("nan")

    def run_of(event):
        return label[pathlib.Path(event["top_frame"]).name]

    before, events = play(folder)
    told = sorted({run_of(event) for event in events if run_of(event) is not None})
    print(f"{clip}: {len(runs)} runs of anomalous frames, {len(told)} told by {len(events)} events")
    good = len(told) > 0
    for run in told:
        mine = [event["id"] for event in events if run_of(event) == run]
        ids = [enrol(folder, event, "--yes").split()[-1] for event in mine]
        after, then = play(folder)
        again = sum(run_of(event) == run for event in then)
        others = {run_of(event) for event in then} - {None, run}
        for enrolment in ids:
            enrol(folder, "--undo", enrolment)
        undone = play(folder)[0] == before
        print(
            f"    run {run}, {len(mine)} events: comes again {again} times; {len(others)} of {len(told) - 1} others still come; AUROC "
            f"of the other frames {measured(before, run):.4f} -> {measured(after, run):.4f}; undone to the bit: {'yes' if undone else 'NO'}"
        )
        good &= undone and len(others) == len(told) - 1
    return good


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clip", choices=sorted(RATES), action="append")
    arguments = parser.parse_args()
    if not unpack("intel_fixedcam"):
        sys.exit("skipped: the archive intel_fixedcam.tar.gz is not there")
    OUT.mkdir(parents=True, exist_ok=True)
    good = True
    for clip in arguments.clip or sorted(RATES):
        bundle = ROOT / f"target/measure/intel-{clip}/intel-{clip}.salad"
        if not bundle.is_file():
            subprocess.run([ROOT / "scripts/measure.py", f"intel-{clip}"], check=True)
        good &= trial(clip, bundle)
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
