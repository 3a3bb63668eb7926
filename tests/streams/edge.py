"""What the scripts beside this file share: a clip to serve, a bundle to score with, and salad-edge as a process that is watched."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
OUT = ROOT / "target/streams"
EDGE = ROOT / "target/release/salad-edge"
sys.path.insert(0, str(ROOT / "scripts"))
from measure import unpack  # noqa: E402


def build():
    """Builds the program, and a bundle of no use but to have a score."""
    cargo = ["cargo", "build", "--release", "--locked", "--workspace"]
    subprocess.run([*cargo, "--bin", "salad-edge", "--example", "parity"], cwd=ROOT, check=True)
    subprocess.run([ROOT / "target/release/examples/parity", OUT], check=True, stdout=subprocess.DEVNULL)
    return OUT / "drawn.salad"


def clip(minutes):
    """A real camera's clip where its archive is there, else a rendered one, repeated to a length."""
    path = OUT / f"clip-{minutes}.mp4"
    if path.is_file():
        return path
    ffmpeg = ["ffmpeg", "-nostdin", "-loglevel", "error", "-y"]
    if unpack("intel_fixedcam"):
        source = ["-stream_loop", "-1", "-i", ROOT / "target/data/intel_fixedcam/bottle/bottle-detection.mp4", "-c", "copy"]
    else:
        print("the archive intel_fixedcam.tar.gz is not there: a rendered clip is served instead")
        source = ["-f", "lavfi", "-i", "testsrc2=size=640x360:rate=30", "-c:v", "libx264", "-preset", "ultrafast", "-g", "30"]
    part = path.with_suffix(".part.mp4")
    subprocess.run([*ffmpeg, *source, "-t", str(minutes * 60), part], check=True)
    part.rename(path)
    return path


class Edge:
    """salad-edge run, in a folder of its own."""

    def __init__(self, name, bundle, source):
        self.folder = OUT / name
        self.folder.mkdir(parents=True, exist_ok=True)
        for old in self.folder.glob("*.jsonl"):
            old.unlink()
        config = self.folder / "edge.toml"
        config.write_text(
            f'bundle = "{bundle}"\nform = "f32"\n[source]\n{source}\n[lens]\nobstructed_after_secs = 0\n'
            '[decision]\nthreshold = 2.0\n[events]\nlog = "events.jsonl"\n',
            encoding="utf-8",
        )
        self.said = open(self.folder / "stderr.txt", "wb")
        self.frames = open(self.folder / "frames.jsonl", "wb")
        self.process = subprocess.Popen([EDGE, "run", "--config", config, "--json"], stdout=self.frames, stderr=self.said)

    def events(self):
        log = self.folder / "events.jsonl"
        lines = log.read_text(encoding="utf-8").splitlines(keepends=True) if log.is_file() else []
        return [json.loads(line) for line in lines if line.endswith("\n")]

    def wait_for(self, what, count, seconds):
        """Waits until that many events are told whose trouble and kind are `what`; seconds that took, or None."""
        start = time.monotonic()
        while time.monotonic() - start < seconds:
            if self.process.poll() is not None:
                sys.exit(f"salad-edge ended by itself: see {self.said.name}")
            if sum((e.get("trouble"), e["kind"]) == what for e in self.events()) >= count:
                return time.monotonic() - start
            time.sleep(0.05)
        return None

    def frame_count(self):
        with open(self.frames.name, "rb") as file:
            return sum(1 for _ in file)

    def descendants(self):
        """All processes that it has started, and theirs: number and state."""
        table = {}
        for stat in pathlib.Path("/proc").glob("[0-9]*/stat"):
            try:
                fields = stat.read_text().rpartition(")")[2].split()
            except OSError:
                continue
            table[int(stat.parent.name)] = (int(fields[1]), fields[0])
        found, parents = {}, {self.process.pid}
        while parents:
            children = {pid: state for pid, (parent, state) in table.items() if parent in parents and pid not in found}
            found |= children
            parents = set(children)
        return found

    def resident_kb(self):
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS"))

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def end(self):
        """Ends it as a service manager would; whether it was content."""
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(timeout=10) == 0
        except subprocess.TimeoutExpired:
            self.process.kill()
            return False
