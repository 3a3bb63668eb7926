#!/usr/bin/env python3
"""Network cameras against real servers on the loopback: RTSP by GStreamer, Motion JPEG over HTTP by ffmpeg. Each is killed and
started again five times while salad-edge watches; every gap has to be told, and no process may be lost. Standard library only.

    tests/streams/network.py        make test-streams installs what it takes
"""

import socket
import subprocess
import sys
import time

from edge import ROOT, Edge, build, clip

KILLS = 5
FRAME_TIMEOUT_SECS = 3
# A gap is told within the time-out, and over within the longest pause, a start and a first picture, on a busy machine.
TOLD_SECS, BACK_SECS = FRAME_TIMEOUT_SECS + 2, 20


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Rtsp:
    name = "rtsp"

    def __init__(self, file):
        self.port, self.file = free_port(), file
        self.url = f"rtsp://127.0.0.1:{self.port}/clip"

    def command(self):
        return ["/usr/bin/python3", ROOT / "tests/streams/rtsp_server.py", str(self.port), self.file]


class Http:
    name = "http"

    def __init__(self, file):
        self.port, self.file = free_port(), file
        self.url = f"http://127.0.0.1:{self.port}/video"

    def command(self):
        # It serves one reader, and ends with it: so the shell starts it again, as a camera would listen on.
        serve = 'while :; do ffmpeg -nostdin -loglevel quiet -re -i "$1" -c:v mjpeg -q:v 5 -r 10 -f mpjpeg -listen 1 "$2"; done'
        return ["sh", "-c", serve, "sh", self.file, self.url]


def start(server):
    return subprocess.Popen(server.command(), stdin=subprocess.DEVNULL, start_new_session=True)


def stop(process):
    """Kills a server and what it has started, with no good-bye."""
    subprocess.run(["kill", "-KILL", "--", f"-{process.pid}"], check=True)
    process.wait()


def check(server, bundle):
    process = start(server)
    edge = Edge(
        server.name,
        bundle,
        f'pipe = {{ preset = "{server.name}", url = "{server.url}", fps = 5, frame_timeout_secs = {FRAME_TIMEOUT_SECS} }}',
    )
    failures, gaps = [], []
    try:
        begun = time.monotonic()
        while edge.frame_count() < 10 and time.monotonic() - begun < 60:
            time.sleep(0.1)
        # It may have been started before its server was ready.
        before = sum(e.get("trouble") == "camera_offline" and e["kind"] == "new" for e in edge.events())
        for kill in range(1, KILLS + 1):
            seen = edge.frame_count()
            stop(process)
            told = edge.wait_for(("camera_offline", "new"), before + kill, TOLD_SECS)
            time.sleep(0.5)
            process = start(server)
            back = edge.wait_for(("camera_offline", "end"), before + kill, BACK_SECS)
            time.sleep(2)
            scored = edge.frame_count() - seen
            gaps.append((told, back))
            if told is None or back is None or scored < 3:
                failures.append(f"kill {kill}: told after {told} s, over after {back} s, {scored} frames since")
        if len(edge.descendants()) != 1:
            failures.append(f"{len(edge.descendants())} processes of it run, not 1")
        left = list(edge.descendants())
        if not edge.end():
            failures.append("it did not end well when told to")
        time.sleep(0.5)
        lost = [pid for pid in left if subprocess.run(["kill", "-0", str(pid)], stderr=subprocess.DEVNULL).returncode == 0]
        if lost:
            failures.append(f"processes {lost} are left")
    finally:
        edge.process.kill()
        stop(process)
    shown = ", ".join("/".join("-" if s is None else f"{s:.1f}" for s in gap) for gap in gaps)
    print(f"{server.name}: {KILLS} times killed; seconds until told / until frames came again: {shown}", flush=True)
    for failure in failures:
        print(f"{server.name}: FAILED: {failure}; see {edge.folder}", flush=True)
    return not failures


def main():
    bundle, file = build(), clip(20)
    results = [check(kind(file), bundle) for kind in (Http, Rtsp)]
    print(f"{sum(results)} passed, {len(results) - sum(results)} failed")
    sys.exit(not all(results))


if __name__ == "__main__":
    main()
