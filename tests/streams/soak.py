#!/usr/bin/env python3
"""A long run: a clip replayed at 15 frames/s by a camera that is killed every 60 s. Resident memory has to stay flat after the
first five minutes, with no descriptor and no process left behind. Standard library only.

    tests/streams/soak.py [--minutes 30] [--bundle FILE.salad]
"""

import argparse
import os
import pathlib
import signal
import sys
import time

from edge import Edge, build, clip

KILL_SECS = 60
SAMPLE_SECS = 5
WARM_UP_MINUTES = 5
MOST_KB_AN_HOUR = 512
FPS = 15


def slope(points):
    """The slope of the line through points (x, y) with the least squares."""
    mean_x = sum(x for x, _ in points) / len(points)
    mean_y = sum(y for _, y in points) / len(points)
    return sum((x - mean_x) * (y - mean_y) for x, y in points) / sum((x - mean_x) ** 2 for x, _ in points)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--bundle", type=pathlib.Path, help="a trained bundle instead of the tests' tiny one")
    arguments = parser.parse_args()
    sample, file = build(), clip(20)
    camera = f'"ffmpeg", "-nostdin", "-loglevel", "error", "-re", "-stream_loop", "-1", "-i", "{file}", ' \
        f'"-r", "{FPS}", "-q:v", "5", "-f", "mjpeg", "pipe:1"'  # fmt: skip
    bundle = arguments.bundle.resolve() if arguments.bundle else sample
    edge = Edge("soak", bundle, f"pipe = {{ command = [{camera}], fps = {FPS}, frame_timeout_secs = 3 }}")
    begun = killed = time.monotonic()
    kills, memory, descriptors, zombies = 0, [], [], 0
    while (now := time.monotonic() - begun) < arguments.minutes * 60:
        time.sleep(SAMPLE_SECS)
        if edge.process.poll() is not None:
            sys.exit(f"salad-edge ended by itself: see {edge.said.name}")
        if time.monotonic() - killed >= KILL_SECS:
            killed = time.monotonic()
            for pid in edge.descendants():
                os.kill(pid, signal.SIGKILL)
                kills += 1
            continue
        memory.append((now / 3600, edge.resident_kb()))
        descriptors.append(edge.descriptors())
        zombies += sum(state == "Z" for state in edge.descendants().values())
    offline = [e["kind"] for e in edge.events() if e.get("trouble") == "camera_offline"]
    frames, ended = edge.frame_count(), edge.end()
    warm = [(hour, kb) for hour, kb in memory if hour * 60 >= min(WARM_UP_MINUTES, arguments.minutes / 2)]
    rise = slope(warm)
    print(
        f"{arguments.minutes:g} minutes, {frames} frames scored, camera killed {kills} times, told offline "
        f"{offline.count('new')} times and back {offline.count('end')} times; resident memory {warm[0][1]} to {warm[-1][1]} kB "
        f"(least {min(kb for _, kb in warm)}, most {max(kb for _, kb in warm)}), {rise:+.0f} kB an hour; descriptors "
        f"{min(descriptors)} to {max(descriptors)}, {descriptors[-1]} at the end; {zombies} zombies"
    )
    checks = {
        "resident memory rises": rise > MOST_KB_AN_HOUR,
        "a kill was not told": offline.count("new") != kills,
        "it did not come back each time": offline.count("end") < kills - 1,
        "descriptors are left open": descriptors[-1] > descriptors[0] + 1,
        "zombies are left": zombies > 0,
        "frames are missing": frames < arguments.minutes * 60 * FPS * 0.8,
        "it did not end well": not ended,
    }
    for failure in (what for what, failed in checks.items() if failed):
        print(f"FAILED: {failure}")
    sys.exit(any(checks.values()))


if __name__ == "__main__":
    main()
