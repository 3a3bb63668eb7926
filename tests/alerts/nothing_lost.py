#!/usr/bin/env python3
"""Nothing is lost: salad-edge makes events as fast as it can, is killed (SIGKILL) at random moments and started again, while
the receivers of its alerts fail in every way they can. At the end each message of each event in the store must have come to
each receiver, and repetitions must have the key of the first. Standard library only; with mosquitto where it is installed.

    tests/alerts/nothing_lost.py [--events 10000] [--kills 200] [--seed 1]
"""

import argparse
import collections
import http.server
import json
import pathlib
import random
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
OUT = ROOT / "target/alerts/lost"
sys.path.insert(0, str(ROOT / "tests/streams"))
from edge import EDGE, build  # noqa: E402

PATIENCE_SECS = 600


class Receiver(http.server.ThreadingHTTPServer):
    """Takes alerts by HTTP, and in a bad mood does anything but answer."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, port, seen, mood):
        self.seen, self.mood, self.open = seen, mood, set()
        super().__init__(("127.0.0.1", port), Handler)

    def handle_error(self, request, client_address):
        """Connections break off here on purpose."""


class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        self.server.open.add(self.connection)
        body = self.rfile.read(int(self.headers["Content-Length"]))
        message = json.loads(body)
        assert self.headers["Idempotency-Key"] == message["key"]
        mood = self.server.mood.random()
        if mood < 0.01:
            return self.answer(500)
        if mood < 0.012:
            time.sleep(3)  # Longer than the sender waits.
        self.server.seen.append(message)
        if mood < 0.03:
            return self.connection.close()  # Taken, and never said so.
        self.answer(204)

    def answer(self, status):
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


class Web(threading.Thread):
    """Starts the receiver, ends it at random moments with all its connections, and starts it again."""

    def __init__(self, mood):
        super().__init__(daemon=True)
        self.seen, self.mood, self.over, self.kills = [], mood, False, 0
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]

    def run(self):
        while not self.over:
            server = Receiver(self.port, self.seen, self.mood)
            serving = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
            serving.start()
            until = time.monotonic() + self.mood.uniform(0.5, 8)
            while time.monotonic() < until and not self.over:
                time.sleep(0.05)
            server.shutdown()
            for connection in list(server.open):
                try:
                    connection.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass
            server.server_close()
            self.kills += 1
            time.sleep(self.mood.uniform(0.05, 1))


class Broker(threading.Thread):
    """mosquitto, ended at random moments and started again, and a client whose session it keeps."""

    def __init__(self, mood, folder):
        super().__init__(daemon=True)
        self.mood, self.folder, self.over, self.calm, self.kills = mood, folder, False, False, 0
        folder.mkdir()
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        # It ends when it is asked to, so that what it has taken is on its disk: what a broker loses is not ours to keep.
        (folder / "mosquitto.conf").write_text(
            f"listener {self.port} 127.0.0.1\nallow_anonymous true\nuser root\npersistence true\nmax_queued_messages 0\n"
            f"persistence_location {folder}/\nlog_dest file {folder}/log\n"
        )
        self.told = open(folder / "told.jsonl", "wb")

    def run(self):
        listening = None
        while not self.over:
            broker = subprocess.Popen([mosquitto(), "-c", self.folder / "mosquitto.conf"], stderr=subprocess.DEVNULL)
            time.sleep(0.3)
            if listening is None or listening.poll() is not None:
                sub = ["mosquitto_sub", "-p", str(self.port), "-t", "salad/events", "-q", "1", "-c", "-i", "listener"]
                listening = subprocess.Popen(sub, stdout=self.told, stderr=subprocess.DEVNULL)
            until = time.monotonic() + self.mood.uniform(1, 10)
            while (time.monotonic() < until or self.calm) and not self.over:
                time.sleep(0.05)
            if self.over:
                time.sleep(3)  # For what the listener has yet to hear.
            broker.terminate()
            broker.wait()
            self.kills += 1
            time.sleep(self.mood.uniform(0.05, 1))
        listening.terminate()

    def await_listener(self):
        """Until the listener hears: what is said before that is not kept for it."""
        probe = ["mosquitto_pub", "-p", str(self.port), "-t", "salad/events", "-q", "1", "-m", "no JSON, so no message"]
        until = time.monotonic() + 30
        while not (self.folder / "told.jsonl").stat().st_size:
            if time.monotonic() > until:
                sys.exit(f"mosquitto or its listener does not work: see {self.folder}/log")
            subprocess.run(probe, stderr=subprocess.DEVNULL, check=False)
            time.sleep(0.1)

    def seen(self):
        lines = (self.folder / "told.jsonl").read_text().splitlines()
        messages = [message for line in lines if (message := whole(line))]
        return [{"id": m["after"]["id"], "kind": m["type"], "key": m["key"]} for m in messages]


def mosquitto():
    return shutil.which("mosquitto", path="/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin")


class Edge:
    """salad-edge, killed and started again."""

    def __init__(self, folder):
        self.folder, self.process, self.starts = folder, None, 0
        self.said = open(folder / "stderr.txt", "ab")

    def start(self):
        self.starts += 1
        command = [EDGE, "run", "--config", self.folder / "edge.toml"]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=self.said)

    def kill(self):
        if self.process.poll() is not None:
            sys.exit(f"salad-edge ended by itself: see {self.said.name}")
        self.process.kill()
        self.process.wait()


def pictures(folder):
    """Normal and not, in turns: every second frame begins an event, the next ends it."""
    folder.mkdir()
    for n in range(20):
        rgb = bytes((0, 255, 0) if n % 2 else (148, 148, 148)) * (24 * 24)
        (folder / f"{n:02}.ppm").write_bytes(b"P6\n24 24\n255\n" + rgb)


def look(store, text):
    """The result of a question to the store, as another program sees it."""
    with sqlite3.connect(f"file:{store}?mode=ro", uri=True, timeout=30) as connection:
        return connection.execute(text).fetchall()


def is_intact(store):
    return look(store, "PRAGMA integrity_check") == [("ok",)]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--events", type=int, default=10_000)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    chance = random.Random(arguments.seed)
    bundle = build()
    shutil.rmtree(OUT, ignore_errors=True)
    OUT.mkdir(parents=True)
    pictures(OUT / "frames")
    web = Web(random.Random(arguments.seed + 1))
    sinks = (
        f'[[sinks]]\nname = "web"\nwebhook = {{ url = "http://127.0.0.1:{web.port}/alerts", timeout_secs = 2 }}\n'
        '[[sinks]]\nname = "file"\njson_lines = { path = "told.jsonl" }\n'
    )
    broker = Broker(random.Random(arguments.seed + 2), OUT / "broker") if mosquitto() else None
    if broker:
        sinks += f'[[sinks]]\nname = "mqtt"\nmqtt = {{ host = "127.0.0.1", port = {broker.port}, timeout_secs = 2 }}\n'
        broker.start()
        broker.await_listener()
    else:
        print("skipped: MQTT, since mosquitto is not installed")
    (OUT / "edge.toml").write_text(
        f'bundle = "{bundle}"\nform = "f32"\n[source]\nreplay = {{ path = "frames", fps = 5, loop = true, pace = "fast" }}\n'
        "[decision]\nthreshold = THRESHOLD\nrelease_ratio = 1.0\nwindow_frames = 1\ntrigger_frames = 1\ncooldown_secs = 0\n"
        f'[events]\nlog = "log.jsonl"\nstore = "events.db"\n{sinks}',
        encoding="utf-8",
    )
    set_threshold(bundle)
    begun = time.monotonic()
    web.start()
    edge, store = Edge(OUT), OUT / "events.db"
    between = []
    while True:
        edge.start()
        # Some die before they have opened the store, some while they write, some with all sinks behind.
        time.sleep(chance.choice([chance.uniform(0.005, 0.1), chance.uniform(0.1, 1.5)]))
        if edge.starts > arguments.kills and look(store, "SELECT count(*) FROM events")[0][0] >= arguments.events:
            break
        edge.kill()
        between.append(is_intact(store) if store.is_file() else True)
    kills = len(between)
    edge.process.send_signal(signal.SIGTERM)
    edge.process.wait()
    broker_kills = broker.kills if broker else 0
    print(f"{kills} kills of salad-edge, {web.kills} of the receiver, {broker_kills} of the broker; the store was intact after {sum(between)} of them")
    still = OUT / "still"
    still.mkdir()
    shutil.copy(OUT / "frames/00.ppm", still)
    quiet = (OUT / "edge.toml").read_text().replace('path = "frames"', 'path = "still"').replace('"fast"', '"real"')
    (OUT / "edge.toml").write_text(quiet)
    # Nothing new happens any more; what is left is delivered. The broker stays: after each loss of it the next attempt is later.
    if broker:
        broker.calm = True
    edge.start()
    while look(store, "SELECT count(*) FROM pending")[0][0] > 0:
        if time.monotonic() - begun > PATIENCE_SECS + 3 * kills:
            sys.exit(f"{look(store, 'SELECT sink, count(*) FROM pending GROUP BY sink')} were never taken")
        time.sleep(0.2)
    edge.process.send_signal(signal.SIGTERM)
    edge.process.wait()
    web.over = True
    if broker:
        broker.over = True
        broker.join()
    events = dict(look(store, "SELECT id, ended FROM events"))
    lines = (OUT / "told.jsonl").read_text().splitlines()
    receivers = {"webhook": web.seen, "file": [m for line in lines if (m := whole(line))]}
    if broker:
        receivers["mqtt"] = broker.seen()
    good = all(between) and is_intact(store)
    print(f"{len(events)} events in {time.monotonic() - begun:.0f} s, {sum(e is None for e in events.values())} of them open")
    for name, seen in receivers.items():
        good &= judge(name, seen, events)
    sys.exit(0 if good else "something was lost")


def whole(line):
    """A line that a kill has cut off is written again, under the same key."""
    try:
        return json.loads(line)
    except json.JSONDecodeError:
        return None


def judge(name, seen, events):
    """Whether a receiver has heard of the beginning and the end of each event, and of nothing else."""
    kinds = collections.defaultdict(set)
    keys = collections.Counter()
    for message in seen:
        kinds[message["id"]].add(message["kind"])
        keys[message.get("key") or (message["id"], message["kind"], message["time"])] += 1
    lost = sum("new" not in kinds[event] for event in events)
    lost += sum(ended is not None and "end" not in kinds[event] for event, ended in events.items())
    strangers = sum(event not in events for event in list(kinds))
    twice = sum(count - 1 for count in keys.values())
    # The beginning and the end are one message each: more keys than that would be a repetition under another one.
    differing = len(keys) - sum(len(kinds[event]) for event in kinds)
    print(f"{name}: {len(seen)} messages, {lost} lost, {twice} came again under their key, "
          f"{differing} under another, {strangers} of no known event")  # fmt: skip
    return lost == strangers == differing == 0


def set_threshold(bundle):
    """Between the scores of the two kinds of frames."""
    command = [EDGE, "score", bundle, OUT / "frames/00.ppm", OUT / "frames/01.ppm", "--form", "f32", "--json"]
    said = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True).stdout
    scores = [json.loads(line)["score"] for line in said.splitlines() if '"score"' in line]
    config = OUT / "edge.toml"
    config.write_text(config.read_text().replace("THRESHOLD", str(sum(scores[:2]) / 2)))
    if not scores[0] < scores[1]:
        # The drawn network is of no use: which of the two colours is the odd one does not matter.
        frames = sorted((OUT / "frames").iterdir())
        for even, odd in zip(frames[::2], frames[1::2]):
            first, second = even.read_bytes(), odd.read_bytes()
            even.write_bytes(second), odd.write_bytes(first)


if __name__ == "__main__":
    main()
