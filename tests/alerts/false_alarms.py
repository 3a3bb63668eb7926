#!/usr/bin/env python3
"""False alarms under changing light: an hour of a fixed camera's normal frames at 5 frames/s, with ramps of light, a lamp that
is switched, jumps of the exposure and noise laid over, scored with and without what tells light and drift from anomalies.
And the clip as it is, and in some of that light: how soon each of its real anomalies is told. Standard library and ffmpeg.

    tests/alerts/false_alarms.py [--clip bottle] [--minutes 60]
"""

import argparse
import csv
import datetime
import json
import pathlib
import shutil
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
OUT = ROOT / "target/alerts/light"
EDGE = ROOT / "target/release/salad-edge"
FPS = 5
sys.path.insert(0, str(ROOT / "scripts"))
from measure import unpack  # noqa: E402

# Frames of the clip a second.
RATES = {"bottle": 29.83, "person": 10, "car": 12.5}

# What happens to the light, minute by minute of an hour: filters of ffmpeg for one span of time each, and for a ramp how far
# its factor F goes from 1.
TROUBLES = [
    ("dusk: down to 60 % and up again", 3, 11, ["lutrgb=r='val*F':g='val*F':b='val*F'"], -0.4),
    ("a lamp is switched off", 14, 17, ["lutrgb=r='val*0.55':g='val*0.55':b='val*0.5'"], None),
    ("exposure jumps up for 20 s", 20, 20.33, ["lutrgb=r='min(255,val*1.5)':g='min(255,val*1.5)':b='min(255,val*1.5)'"], None),
    ("exposure jumps down for 5 s", 23, 23.083, ["lutrgb=r='val*0.7':g='val*0.7':b='val*0.7'"], None),
    ("noise as in the dark", 26, 29, ["noise=alls=25:allf=t"], None),
    ("a lamp flickers", 32, 33, ["eq=brightness='0.12*sin(6*t)':eval=frame"], None),
    ("a second lamp", 36, 40, ["eq=brightness=0.15:contrast=1.1"], None),
    ("warm light", 43, 46, ["colorbalance=rm=0.15:bm=-0.15"], None),
    ("noise and dim", 49, 52, ["lutrgb=r='val*0.75':g='val*0.75':b='val*0.75'", "noise=alls=12:allf=t"], None),
    ("sun: up to 140 % and down again", 54, 58, ["lutrgb=r='min(255,val*F)':g='min(255,val*F)':b='min(255,val*F)'"], 0.4),
]


def normal_video(clip, minutes, disturbed):
    """The clip's normal test frames in a loop for so long, as a video."""
    path = OUT / f"{clip}-{'light' if disturbed else 'calm'}-{minutes:g}.mp4"
    if path.is_file():
        return path
    frames = ROOT / f"target/data/intel_fixedcam/{clip}/test/good"
    filters = []
    for _, start, end, parts, depth in TROUBLES if disturbed else []:
        for first, last, factor in spans(start, end, depth):
            filters += [f"{part.replace('F', factor)}:enable='between(t,{first:.3f},{last:.3f})'" for part in parts]
    listing = OUT / f"{clip}.txt"
    listing.write_text("".join(f"file '{frame}'\nduration {1 / FPS}\n" for frame in sorted(frames.iterdir())))
    part = path.with_suffix(".part.mp4")
    command = ["ffmpeg", "-nostdin", "-loglevel", "error", "-y", "-stream_loop", "-1", "-f", "concat", "-safe", "0", "-i", listing]
    command += ["-t", str(minutes * 60), "-r", str(FPS), "-vf", ",".join(["format=rgb24", *filters, "format=yuv444p"])]
    subprocess.run([*command, "-c:v", "libx264", "-preset", "veryfast", "-crf", "12", part], check=True)
    part.rename(path)
    return path


def spans(start, end, depth):
    """First and last second of each span with its factor: one span, or a ramp's steps of two seconds."""
    if depth is None:
        yield start * 60, end * 60, ""
        return
    count = int((end - start) * 30)
    for n in range(count):
        share = 1 - abs(2 * (n + 0.5) / count - 1)
        first = start * 60 + n * 2
        yield first, first + 2 - 1 / FPS / 2, f"{1 + depth * share:.4f}"


def run(name, bundle, video, fps, settings):
    """What salad-edge tells of a video: events, and its last words."""
    folder = OUT / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / "edge.toml").write_text(
        f'bundle = "{bundle}"\nform = "int8"\n[source]\nreplay = {{ path = "{video}", fps = {fps}, pace = "fast" }}\n'
        f'{settings}\n[events]\nlog = "events.jsonl"\n',
        encoding="utf-8",
    )
    begun = subprocess.run(
        [EDGE, "run", "--config", folder / "edge.toml", "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=True, text=True
    )
    frames = [json.loads(line) for line in begun.stdout.splitlines()]
    start = datetime.datetime.fromisoformat(frames[0]["time"])
    events = [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]
    for event in events:
        event["second"] = (datetime.datetime.fromisoformat(event["time"]) - start).total_seconds()
    return events, frames, begun.stderr.splitlines()[-1]


def name_of(event):
    return event.get("trouble") or "anomaly"


def trial(clip, bundle, minutes):
    video = normal_video(clip, minutes, True)
    for name, settings in [("without", "[drift]\nafter_mins = 0\nlight_after_secs = 0"), ("with", "[drift]\n[lens]")]:
        events, frames, words = run(f"{clip}-{name}", bundle, video, FPS, settings)
        begun = [event for event in events if event["kind"] == "new"]
        anomalies = [event for event in begun if name_of(event) == "anomaly"]
        over = sum(frame["anomalous"] for frame in frames)
        print(f"{clip}, {name} light and drift: {len(frames)} frames, {over} anomalous, {len(anomalies)} false events")
        for event in begun:
            minute = event["second"] / 60
            during = next((text for text, a, b, *_ in TROUBLES if a <= minute < b + 0.1), "calm")
            detail = event.get("detail") or f"score {event['top_score']:.3f}, threshold {event['threshold']:.3f}"
            print(f"    {minute:5.2f} min  {name_of(event):15} {during}: {detail[:90]}")
    return len(anomalies)


def real_video(clip, parts):
    """The clip, after two seconds as it is through ffmpeg's filters."""
    source = next((ROOT / f"target/data/intel_fixedcam/{clip}").glob("*.mp4"))
    if not parts:
        return source
    path = OUT / f"{clip}-real.mp4"
    filters = ",".join(["format=rgb24", *(f"{part}:enable='gte(t,2)'" for part in parts), "format=yuv444p"])
    command = ["ffmpeg", "-nostdin", "-loglevel", "error", "-y", "-i", source, "-vf", filters, "-an"]
    subprocess.run([*command, "-c:v", "libx264", "-preset", "veryfast", "-crf", "12", path], check=True)
    return path


def real(clip, bundle, light=None):
    """How soon each run of anomalous frames of the clip is told, seconds of the clip, as it is or in a light of TROUBLES."""
    folder = ROOT / f"target/data/intel_fixedcam/{clip}"
    with open(folder / "labels.csv", newline="") as file:
        labels = {int(row["frame"]): row["split"] for row in csv.DictReader(file)}
    rate = RATES[clip]
    video = real_video(clip, next((parts for name, _, _, parts, _ in TROUBLES if name == light), []))
    events, frames, _ = run(f"{clip}-real", bundle, video, rate, "[drift]\n[lens]")
    told = [event["second"] for event in events if event["kind"] == "new" and name_of(event) == "anomaly"]
    ended = [event["second"] for event in events if event["kind"] == "end" and name_of(event) == "anomaly"]
    runs, last = [], None
    for frame in sorted(labels):
        if labels[frame] == "test/defect":
            if last is None or frame - last > rate:
                runs.append([frame, frame])
            runs[-1][1] = last = frame
    found = 0
    for start, end in runs:
        begin, finish = start / rate, end / rate
        during = [t - begin for t, e in zip(told, ended + [1e9] * len(told)) if t <= finish + 2 and e >= begin]
        first = min(during, default=None)
        found += first is not None and first <= 2
        # A label may come a moment after what it names.
        said = "not told" if first is None else "an event was open already" if first < -1 else f"told after {max(0, first):.1f} s"
        print(f"    {clip}: anomaly from {begin:.1f} to {finish:.1f} s: {said}")
    light = f", {light}" if light else ""
    print(f"{clip}{light}: {found} of {len(runs)} real anomalies told within 2 s, in {len(told)} events")
    return found == len(runs)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clip", choices=sorted(RATES), action="append")
    parser.add_argument("--minutes", type=float, default=60)
    arguments = parser.parse_args()
    if not unpack("intel_fixedcam"):
        sys.exit("skipped: the archive intel_fixedcam.tar.gz is not there")
    OUT.mkdir(parents=True, exist_ok=True)
    good = True
    for clip in arguments.clip or sorted(RATES):
        bundle = ROOT / f"target/measure/intel-{clip}/intel-{clip}.salad"
        if not bundle.is_file():
            subprocess.run([ROOT / "scripts/measure.py", f"intel-{clip}"], check=True)
        good &= trial(clip, bundle, arguments.minutes) <= 1
        good &= real(clip, bundle)
        for light in ("a lamp is switched off", "noise as in the dark", "a second lamp", "warm light"):
            real(clip, bundle, light)
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
