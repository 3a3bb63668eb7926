#!/usr/bin/env python3
"""What the demo ends with: figures of the test set, and the edge's alerts held against the truth. Standard library only.

    demo_alerts.py stream --truth truth.csv --events events.jsonl --frames frames.jsonl --fps 10 --evaluation evaluation.json
    demo_alerts.py scores scores.jsonl

`stream` reads `salad-edge run`'s event log and its line for each frame; `scores` reads what `salad-edge score --json`
prints.

An incident is found when an alert begins while it lasts, or within GRACE frames after: the edge's decision looks back
over a few frames. An alert that begins at any other time is a false one, also when it lasts into an incident.
"""

import argparse
import csv
import json
import statistics
from dataclasses import dataclass, field

GRACE = 5


@dataclass
class Incident:
    """A defective part in place, frames counted from 0, both ends included."""

    first: int
    last: int
    kind: str
    alerts: list = field(default_factory=list)


@dataclass
class Alert:
    """An event of the edge."""

    first: int
    last: int
    top_score: float
    threshold: float


def read_truth(path):
    """Incidents of a truth.csv."""
    with open(path, encoding="utf-8", newline="") as file:
        return [Incident(int(r["first_frame"]), int(r["last_frame"]), r["kind"]) for r in csv.DictReader(file)]


def read_lines(path):
    """The objects of a JSON-lines file."""
    with open(path, encoding="utf-8") as file:
        return [json.loads(line) for line in file if line.strip()]


def read_alerts(events, frames):
    """Alerts from the event messages; their times are those of frames, whose number in the stream is wanted."""
    number = {frame["time"]: i for i, frame in enumerate(frames)}
    alerts = {}
    for event in events:
        at = number[event["time"]]
        alert = alerts.setdefault(event["id"], Alert(at, len(frames) - 1, event["top_score"], event["threshold"]))
        alert.top_score = event["top_score"]
        if event["kind"] == "end":
            alert.last = at
    return sorted(alerts.values(), key=lambda alert: alert.first)


def assign(incidents, alerts):
    """Gives each alert to the incident in which it began; the others are false and come back."""
    false = []
    for alert in alerts:
        owner = next((i for i in incidents if i.first <= alert.first <= i.last + GRACE), None)
        (owner.alerts if owner else false).append(alert)
    return false


def describe(incident, alerts, fps):
    """What became of one incident."""
    if incident.alerts:
        alert = incident.alerts[0]
        delay = (alert.first - incident.first) / fps
        again = f", {len(incident.alerts)} alerts" if len(incident.alerts) > 1 else ""
        return f"alert after {delay:.1f} s, top score {alert.top_score:.3f}{again}"
    if any(a.first < incident.first and a.last >= incident.first for a in alerts):
        return "MISSED: an earlier alert was still open"
    return "MISSED"


def print_stream(args):
    """The demo's last words."""
    frames = read_lines(args.frames)
    incidents, alerts = read_truth(args.truth), read_alerts(read_lines(args.events), frames)
    false = assign(incidents, alerts)
    with open(args.evaluation, encoding="utf-8") as file:
        evaluation = json.load(file)
    figures = evaluation["forms"]
    low, high = figures["int8"]["auroc_interval_95"]
    print(f"Test set: {evaluation['normal']} good and {evaluation['anomalous']} defective pictures")
    print(f"  AUROC in int8 {figures['int8']['auroc']:.4f} (95 % interval {low:.4f} to {high:.4f}), "
          f"in f32 {figures['f32']['auroc']:.4f}")
    print(f"Stream: {len(frames)} frames, {len(frames) / args.fps:.0f} s at {args.fps:g} frames a second")
    for i in incidents:
        times = f"{i.first / args.fps:5.1f} to {i.last / args.fps:5.1f} s"
        print(f"  {times}  {i.kind:<15} {describe(i, alerts, args.fps)}")
    for alert in false:
        print(f"  {alert.first / args.fps:5.1f} to {alert.last / args.fps:5.1f} s  FALSE ALERT     "
              f"top score {alert.top_score:.3f}")
    found = [i for i in incidents if i.alerts]
    delays = [(i.alerts[0].first - i.first) / args.fps for i in found]
    median = f", median delay {statistics.median(delays):.1f} s" if delays else ""
    print(f"Alerts: {len(found)} of {len(incidents)} incidents found, {len(false)} false alerts{median}")


def print_scores(args):
    """The highest scores of a set of pictures."""
    lines = [line for line in read_lines(args.file) if "score" in line]
    anomalous = sum(line["anomalous"] for line in lines)
    print(f"{len(lines)} pictures scored, {anomalous} of them over the threshold; the highest scores:")
    for line in sorted(lines, key=lambda line: -line["score"])[:10]:
        name = line["path"] if "frame" not in line else f"{line['path']} frame {line['frame']}"
        print(f"  {line['score']:.4f}  {'anomalous' if line['anomalous'] else 'normal   '}  {name}")


def main():
    """Parses the command line."""
    parser = argparse.ArgumentParser(description="what the demo ends with")
    commands = parser.add_subparsers(required=True)
    stream = commands.add_parser("stream", help="alerts against the truth")
    for name in ("--truth", "--events", "--frames", "--evaluation"):
        stream.add_argument(name, required=True)
    stream.add_argument("--fps", type=float, required=True)
    stream.set_defaults(run=print_stream)
    scores = commands.add_parser("scores", help="the highest scores")
    scores.add_argument("file")
    scores.set_defaults(run=print_scores)
    args = parser.parse_args()
    args.run(args)


if __name__ == "__main__":
    main()
