#!/usr/bin/env python3
"""What the event store with a sink, and the page with somebody looking at it, cost beside scoring: processor time and memory of
salad-edge over a minute of a 640 x 480 stream at 5 frames/s, one after the other. Standard library and ffmpeg.

    tests/web/cost.py [--bundle FILE] [--seconds 60]
"""

import argparse
import os
import pathlib
import re
import shutil
import subprocess
import sys
import time
import urllib.parse
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[2]
OUT = ROOT / "target/web-cost"
sys.path.insert(0, str(ROOT / "tests/streams"))
from edge import EDGE, build  # noqa: E402

CONFIG = """bundle = "{bundle}"
form = "int8"
[source]
pipe = {{ command = ["ffmpeg", "-loglevel", "error", "-re", "-f", "lavfi", "-i", "testsrc=size=640x480:rate=5", "-f", "mjpeg", \
"-"], fps = 5, frozen_after_secs = 0 }}
[lens]
obstructed_after_secs = 0
"""
STORE = '[events]\nstore = "events.db"\n[[sinks]]\nname = "file"\njson_lines = { path = "told.jsonl" }\n'
WEB = '[web]\nlisten = "127.0.0.1:0"\n'
SETTINGS = {"scoring alone": "", "with store and a sink": STORE, "with the page too, somebody looking": STORE + WEB}
START_SECS = 5


def looked_at(url, opener, seconds):
    """What the page's script asks for, for so long."""
    start = time.monotonic()
    turn = 0
    while time.monotonic() < start + seconds:
        for path in ["live.jpg", "live.jpg", "state"] + ["scores?hours=1"] * (turn % 5 == 0):
            opener.open(f"{url}/api/v1/{path}").read()
        turn += 1
        time.sleep(max(0, start + turn - time.monotonic()))


def cpu(pid):
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bundle", type=pathlib.Path)
    parser.add_argument("--seconds", type=float, default=60)
    options = parser.parse_args()
    bundle = (options.bundle or build()).resolve()
    for name, settings in SETTINGS.items():
        shutil.rmtree(OUT, ignore_errors=True)
        OUT.mkdir(parents=True)
        (OUT / "edge.toml").write_text(CONFIG.format(bundle=bundle) + settings)
        with open(OUT / "said", "w") as log:
            edge = subprocess.Popen([EDGE, "run", "--config", "edge.toml"], cwd=OUT, stderr=log)
        try:
            time.sleep(START_SECS)
            opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())
            if WEB in settings:
                url = re.search(r"http://127\.0\.0\.1:\d+(?=/)", (OUT / "said").read_text())[0]
                opener.open(f"{url}/first", urllib.parse.urlencode({"password": "a good one"}).encode())
            before = cpu(edge.pid)
            if WEB in settings:
                looked_at(url, opener, options.seconds)
            else:
                time.sleep(options.seconds)
            took = cpu(edge.pid) - before
            status = pathlib.Path(f"/proc/{edge.pid}/status").read_text()
            resident, most = (int(re.search(rf"{key}:\s+(\d+)", status)[1]) / 1000 for key in ("VmRSS", "VmHWM"))
            print(f"{name}: {took / options.seconds:.1%} of a core, {resident:.0f} MB resident, at most {most:.0f} MB")
        finally:
            edge.terminate()
            edge.wait(30)


if __name__ == "__main__":
    main()
