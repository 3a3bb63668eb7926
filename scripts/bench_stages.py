"""What bench_edge.py asks of the whole program, salad-edge: stages from a frame to the verdict, its start, its memory, and which form
it takes."""

import json
import os
import re
import statistics
import subprocess
from pathlib import Path

import edge_figures

ROOT = Path(__file__).resolve().parent.parent
PROGRAM = ROOT / "target/release/salad-edge"
PROTOTYPES = 4096
SECONDS = 5
STAGES = {
    "decode the picture": "decode",
    "resize": "resize",
    "encode": "encode",
    "search the prototypes": "search",
    "decide": "decide",
    "a frame, all of it": "frame",
    "one in a hundred, above": "slow_frame",
}


def with_prototypes(bundle, out):
    """The bundle with as many prototypes as an installation may have."""
    subprocess.run([ROOT / "target/release/examples/prototypes", bundle, str(PROTOTYPES), out], check=True)
    return out


def stages(name, bundle, photo):
    """Prints the medians of both forms."""
    command = [PROGRAM, "bench", bundle, "--picture", photo, "--seconds", str(SECONDS), "--json"]
    report = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout)
    forms = {form["form"]: form for form in report["forms"]}
    print(f"\n{name}, {report['prototypes']} prototypes, a JPEG of 640 x 480, 1 thread, milliseconds:")
    print(f"{'':40}" + "".join(f"{form:>12}" for form in forms))
    print(f"{'run by':40}" + "".join(f"{form['engine']:>12}" for form in forms.values()))
    for stage, key in STAGES.items():
        print(f"{stage:40}" + "".join(f"{form[key]:12.3f}" for form in forms.values()))
    starts = [started(bundle, photo, form) for form in forms]
    print(f"{'from the start to the first score':40}" + "".join(f"{1e3 * seconds:12.1f}" for seconds, _ in starts))
    print(f"{'most memory resident, MB':40}" + "".join(f"{megabytes:12.1f}" for _, megabytes in starts), flush=True)


def started(bundle, photo, form):
    """Medians over some starts: seconds to the first score, MB resident at most."""
    starts = [edge_figures.first_score(PROGRAM, bundle, [photo], form) for _ in range(edge_figures.STARTS)]
    return [statistics.median(values) for values in zip(*starts)]


def auto(bundle, photo, environment):
    """What `--form auto` says of its choice."""
    command = [PROGRAM, "score", bundle, photo, "--form", "auto", "--threads", "1"]
    environment = os.environ | {"RUST_LOG": "info,tract=error"} | environment
    said = subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stderr
    choice = re.search(r"form auto: (.*)", said)
    return choice[1] if choice else "nothing: it did not say"


def photo_of(pictures):
    """The first of a folder of pictures as a camera of 640 x 480 would give it: with half as many colours a row, as nearly all do."""
    photo = pictures.parent / "640x480.jpg"
    camera = ["-vf", "scale=640:480", "-pix_fmt", "yuvj422p", "-q:v", "3"]
    subprocess.run(["ffmpeg", "-loglevel", "error", "-y", "-i", min(pictures.iterdir()), *camera, photo], check=True)
    return photo
