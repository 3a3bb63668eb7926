#!/usr/bin/env python3
"""How much the event store writes to the disk in a day: a replay of frames at 5 a second with 20 events a day, played as fast as
frames can be scored, while the kernel counts what salad-edge has written (write_bytes in /proc/PID/io). Standard library only.

    tests/alerts/write_budget.py [--hours 24]
"""

import argparse
import json
import os
import pathlib
import shutil
import signal
import sqlite3
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
OUT = ROOT / "target/alerts/budget"
sys.path.insert(0, str(ROOT / "tests/streams"))
from edge import EDGE, build  # noqa: E402

FPS = 5
EVENTS_A_DAY = 20
EVENT_SECS = 10
# What is written at the start is no part of a day.
FIRST_MINUTES = 10


def frames(folder, odd):
    """As many frames as there are from one event to the next, most of them one picture under many names."""
    folder.mkdir(parents=True)
    pictures = [OUT / "normal.ppm", OUT / "odd.ppm"]
    for n in range(FPS * 86400 // EVENTS_A_DAY):
        os.symlink(pictures[odd if n < FPS * EVENT_SECS else 1 - odd], folder / f"{n:06}.ppm")


def scores(bundle):
    command = [EDGE, "score", bundle, OUT / "normal.ppm", OUT / "odd.ppm", "--form", "int8", "--json"]
    said = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True).stdout
    return [json.loads(line)["score"] for line in said.splitlines()]


def look(text):
    with sqlite3.connect(f"file:{OUT / 'events.db'}?mode=ro", uri=True, timeout=30) as connection:
        return connection.execute(text).fetchone()[0]


def written(process):
    lines = pathlib.Path(f"/proc/{process.pid}/io").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("write_bytes"))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--hours", type=float, default=24)
    hours = parser.parse_args().hours
    bundle = build()
    shutil.rmtree(OUT, ignore_errors=True)
    OUT.mkdir(parents=True)
    for name, colour in [("normal", (148, 148, 148)), ("odd", (0, 255, 0))]:
        (OUT / f"{name}.ppm").write_bytes(b"P6\n24 24\n255\n" + bytes(colour) * (24 * 24))
    both = scores(bundle)
    # The drawn network is of no use: which of the two colours is the odd one does not matter.
    frames(OUT / "frames", odd=int(both[1] > both[0]))
    (OUT / "edge.toml").write_text(
        f'bundle = "{bundle}"\nform = "int8"\n[source]\nreplay = {{ path = "frames", fps = {FPS}, loop = true, pace = "fast" }}\n'
        f'[decision]\nthreshold = {sum(both) / 2}\n[events]\nstore = "events.db"\n'
        '[[sinks]]\nname = "nobody"\ncommand = { run = ["true"] }\n',
        encoding="utf-8",
    )
    process = subprocess.Popen([EDGE, "run", "--config", OUT / "edge.toml"], stderr=open(OUT / "stderr.txt", "wb"))
    marks = []
    for minutes in (FIRST_MINUTES, FIRST_MINUTES + hours * 60):
        while not (OUT / "events.db").exists() or look("SELECT count(*) FROM minutes") < minutes:
            if process.poll() is not None:
                sys.exit(f"salad-edge ended by itself: see {OUT / 'stderr.txt'}")
            time.sleep(0.2)
        marks.append((look("SELECT count(*) FROM minutes"), look("SELECT count(*) FROM events"), written(process)))
    process.send_signal(signal.SIGTERM)
    process.wait()
    (first, events, before), (last, all_events, after) = marks
    days = (last - first) / 1440
    size = (OUT / "events.db").stat().st_size
    print(f"{(last - first) / 60:.1f} hours with {all_events - events} events: {(after - before) / days / 1e6:.1f} MB written a day; "
          f"the store then has {size / 1e3:.0f} kB")  # fmt: skip


if __name__ == "__main__":
    main()
