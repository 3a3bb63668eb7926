#!/usr/bin/env python3
"""The device's half from camera to alert, in emulated machines whose camera is the kernel's driver vivid.

    tests/camera/run.py ARCH...        amd64, arm64

In each machine Debian's systemd runs the service of target/deb/salad-edge_VERSION_ARCH.deb. Normal pictures of the camera are
collected there and trained on here; then the picture changes, and then the camera fails, in each way that vivid knows and a
capture meets. Times of faults, frames and events are all by the guest's clock. The exit status is 1 where something is
missing, and the last lines say what. `make test-camera` builds what this needs; everything lands under target/camera.
"""

import contextlib
import dataclasses
import datetime
import json
import os
import pathlib
import shutil
import subprocess
import sys
import time

sys.dont_write_bytecode = True
import image  # noqa: E402
from guest import Guest, GuestError  # noqa: E402

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
TRAINER = ROOT / os.environ.get("CARGO_TARGET_DIR", "target") / "release/salad-trainer"

# Seconds without a frame after which the camera is offline, and how long the camera may be gone after a fault.
FRAME_TIMEOUT = 3
RECOVERY = FRAME_TIMEOUT + 5

CONFIG = f"""
bundle = "/var/lib/salad-edge/model.salad"

[source]
camera = {{ device = "name:vivid", size = [320, 180], fps = 5, frame_timeout_secs = {FRAME_TIMEOUT} }}

# Above lie the driver's running numbers, which say nothing of the scene.
[regions]
crop = [0.0, 0.2, 1.0, 1.0]

[decision]
cooldown_secs = 1

[events]
log = "/var/lib/salad-edge/events.jsonl"

[snapshots]
dir = "/var/lib/salad-edge/snapshots"
"""

# The service as it is shipped, but that it tells of each frame.
EACH_FRAME = """
[Service]
ExecStart=
ExecStart=/usr/bin/salad-edge run --config /etc/salad-edge/edge.toml --json
StandardOutput=append:/share/frames.jsonl
StandardError=journal
"""

CONTROL = "v4l2-ctl -d /dev/video0 -c "

# Normal pictures differ in light, in the guest's shell; what is watched later lies amid them.
LIGHT = "brightness=$((100 + RANDOM % 57)),contrast=$((114 + RANDOM % 29)),saturation=$((114 + RANDOM % 29))"
PLAIN_LIGHT = "brightness=128,contrast=128,saturation=128"


@dataclasses.dataclass
class Fault:
    """Something that a camera does."""

    name: str
    # What makes it, and what ends it where it does not end by itself.
    command: str
    lift: str | None = None
    # Whether the camera counts as offline meanwhile, and how often it has to be opened at least until it is back.
    offline: bool = True
    attempts: int = 1


FAULTS = [
    Fault("a buffer with an error", CONTROL + "inject_v4l2_buf_flag_error=1", offline=False),
    Fault("half of all buffers dropped", CONTROL + "percentage_of_dropped_buffers=50",
          CONTROL + "percentage_of_dropped_buffers=0", offline=False),
    Fault("a buffer that cannot be queued", CONTROL + "inject_vidioc_qbuf_error=1"),
    Fault("a fatal streaming error", CONTROL + "inject_fatal_streaming_error=1"),
    # These two meet the next start of a capture, which the fatal error brings about.
    Fault("a stream that does not start", CONTROL + "inject_vidioc_streamon_error=1,inject_fatal_streaming_error=1",
          attempts=2),
    Fault("buffers that cannot be had", CONTROL + "inject_vidioc_reqbufs_error=1,inject_fatal_streaming_error=1", attempts=2),
    Fault("disconnected", CONTROL + "disconnect=1"),
    Fault("a stalled stream", CONTROL + "percentage_of_dropped_buffers=100", CONTROL + "percentage_of_dropped_buffers=0"),
    # The newest process of the service is the one that reads the camera.
    Fault("a capture that hangs", "kill -STOP $(tail -n 1 /sys/fs/cgroup/system.slice/salad-edge.service/cgroup.procs)"),
]


class Trial:
    """One machine's."""

    def __init__(self, arch: str):
        self.arch = arch
        self.folder = ROOT / "target/camera" / arch
        self.share = self.folder / "share"
        self.guest: Guest | None = None
        self.events_read = 0
        self.waiting: list[dict] = []

    def run(self) -> None:
        """Everything in turn; raises what is missing."""
        package = self.package()
        with self.step("kernel and root from Debian's packages"):
            kernel, root = image.make(self.arch, self.folder)
        shutil.rmtree(self.share, ignore_errors=True)
        self.share.mkdir()
        shutil.copyfile(package, self.share / "salad-edge.deb")
        (self.share / "edge.toml").write_text(CONFIG)
        (self.share / "each-frame.conf").write_text(EACH_FRAME)
        with self.step("start of the machine") as note:
            self.guest = Guest(self.arch, kernel, root, self.share, self.folder / "console.log")
            note(f"{self.guest.acceleration}")
        try:
            self.install()
            self.collect_and_train()
            self.watch()
            self.change("another test pattern", "test_pattern=4", "test_pattern=0")
            self.change("a flipped picture", "sensor_flipped_horizontally=1", "sensor_flipped_horizontally=0")
            for fault in FAULTS:
                self.fail(fault)
            self.look_back()
        except GuestError:
            with contextlib.suppress(GuestError):
                self.say("the service's log:\n" + self.guest.run("journalctl -u salad-edge -n 40 -o short-monotonic"))
            raise
        finally:
            self.guest.close()

    def package(self) -> pathlib.Path:
        packages = list((ROOT / "target/deb").glob(f"salad-edge_*_{self.arch}.deb"))
        if not packages:
            raise GuestError(f"there is no package for {self.arch} in target/deb: make deb ARCH={self.arch}")
        return max(packages, key=lambda path: path.stat().st_mtime)

    def install(self) -> None:
        with self.step("the package is installed"):
            self.guest.run("dpkg -i /share/salad-edge.deb")
            expect(self.property("ActiveState") == "inactive", "without a bundle the service rests")
        with self.step("the camera is listed"):
            cameras = json.loads(self.guest.run("salad-edge cameras --json"))
            expect(any("vivid" in json.dumps(camera) for camera in cameras), f"vivid is among {cameras}")
        self.guest.run("cat /share/edge.toml >/etc/salad-edge/edge.toml")
        self.guest.run("install -D -m 644 /share/each-frame.conf /etc/systemd/system/salad-edge.service.d/each-frame.conf")

    def collect_and_train(self) -> None:
        with self.step("60 normal pictures are collected") as note:
            # Of the text that the driver writes, a line of running numbers stays, so that no two frames are the same.
            self.guest.run(f"{CONTROL}osd_text_mode=1")
            self.guest.run(f"(while :; do {CONTROL}{LIGHT}; sleep 0.2; done) & light=$!; "
                           "salad-edge collect --config /share/edge.toml --count 60 --every 200ms /share/parts; "
                           f"status=$?; kill $light; sleep 1; {CONTROL}{PLAIN_LIGHT}; [ $status = 0 ]", seconds=180)
            pictures = len(list((self.share / "parts/train/good").glob("*.jpg")))
            note(f"{pictures} pictures")
            expect(pictures == 60, "60 pictures were collected")
        run = self.folder / "run"
        with self.step("a bundle is trained on them, on the host"):
            shutil.rmtree(run, ignore_errors=True)
            with (self.folder / "train.log").open("w") as log:
                trained = subprocess.run([TRAINER, "train", self.share / "parts", "--config", HERE / "recipe.toml",
                                          "--name", "camera", "--out", run], stdout=log, stderr=log)
            expect(trained.returncode == 0, f"the trainer trains; it says why not in {log.name}")
        shutil.copyfile(run / "camera.salad", self.share / "camera.salad")

    def watch(self) -> None:
        with self.step("the service starts") as note:
            self.guest.run("install -m 644 /share/camera.salad /var/lib/salad-edge/model.salad")
            self.guest.run("systemctl daemon-reload; systemctl start salad-edge")
            self.process = self.property("MainPID")
            frames = self.until(20, "10 frames are scored", lambda: (frames := self.frames())[9:] and frames)
            note(f"{len(frames)} frames")
        with self.step("ten calm seconds") as note:
            before = len(self.frames())
            time.sleep(10)
            frames = self.frames()[before:]
            rate = len(frames) / 10
            highest = max((frame["score"] for frame in frames), default=0)
            note(f"{rate:.1f} frames/s, highest score {highest:.3f}")
            expect(rate > 1, "more than one frame a second is scored")
            expect(not self.events(), "what is normal raises no alert")

    def change(self, name: str, there: str, back: str) -> None:
        with self.step(f"{name} raises an alert") as note:
            start = self.fault(CONTROL + there)
            event = self.event("anomaly", "new")
            score = f"score {event['top_score']:.3f}, threshold {event['threshold']:.3f}"
            note(f"after {seconds(event['time']) - start:.1f} s, {score}")
            start = self.fault(CONTROL + back)
            event = self.event("anomaly", "end")
            note(f"over {seconds(event['time']) - start:.1f} s after its end")
            expect(event["snapshot"], "the event has a snapshot")

    def fail(self, fault: Fault) -> None:
        with self.step(fault.name) as note:
            start = self.fault(fault.command)
            if not fault.offline:
                self.until(20, "10 more frames are scored", lambda: len(self.frames(start)) >= 10)
                if fault.lift:
                    self.guest.run(fault.lift)
                times = [start] + [seconds(frame["time"]) for frame in self.frames(start)]
                gap = max(b - a for a, b in zip(times, times[1:]))
                note(f"at most {gap:.1f} s between frames")
                expect(gap <= RECOVERY, f"frames come again within {RECOVERY} s")
                expect(not self.events(), "no event is told")
                return
            began = self.event("camera", "new")
            note(f"told after {seconds(began['time']) - start:.1f} s ({began['detail']})")
            expect(seconds(began["time"]) - start <= RECOVERY, f"it is told within {RECOVERY} s")
            if fault.lift:
                start = self.fault(fault.lift)
            ended = self.event("camera", "end")
            back = seconds(ended["time"]) - start
            note(f"back {back:.1f} s after {'its end' if fault.lift else 'it'}, opened {ended['attempts']} times")
            expect(back <= RECOVERY, f"the camera is back within {RECOVERY} s")
            expect({began["trouble"], ended["trouble"]} == {"camera_offline"}, "both events say camera_offline")
            expect(ended["attempts"] >= fault.attempts, f"it had to be opened {fault.attempts} times")
            end = seconds(ended["time"])
            self.until(RECOVERY, "frames are scored again", lambda: self.frames(end))

    def look_back(self) -> None:
        with self.step("the service as it is now") as note:
            # It tells systemd every ten seconds.
            note(self.until(20, "systemd is told that the camera works", self.status))
            expect(self.property("MainPID") == self.process, "the service ran all the time")
            processes = self.guest.run("cat /sys/fs/cgroup/system.slice/salad-edge.service/cgroup.procs").split()
            expect(len(processes) == 2, f"it has one capture and no other process is left of it: {processes}")
            expect(not self.events(), "no event is left over")
            self.guest.run("systemctl stop salad-edge")
            expect(self.property("Result") == "success", "it stops when it is told to")
            expect(not self.events(), "its end is no event of the camera's")

    # What a trial is made of.

    @contextlib.contextmanager
    def step(self, name: str):
        """Prints what was done, what was noted of it, and how long it took."""
        start, notes = time.monotonic(), []
        try:
            yield notes.append
        finally:
            self.say(f"{time.monotonic() - start:6.1f} s  {name}" + (": " if notes else "") + "; ".join(notes))

    def say(self, text: str) -> None:
        print(f"test-camera: {self.arch}: {text}", flush=True)

    def property(self, name: str) -> str:
        return self.guest.run(f"systemctl show --value -p {name} salad-edge")

    def status(self) -> str | None:
        text = self.property("StatusText")
        return text if text.startswith("camera works") else None

    def fault(self, command: str) -> float:
        """Runs a command that changes the camera; the time of the guest's clock just before."""
        return float(self.guest.run(f"date +%s.%N; {command}").split()[0])

    def frames(self, since: float = 0) -> list[dict]:
        """The frames that were scored, of those taken since then."""
        path = self.share / "frames.jsonl"
        # The last line may be half written.
        lines = path.read_text().split("\n")[:-1] if path.exists() else []
        return [frame for frame in map(json.loads, lines) if seconds(frame["time"]) >= since]

    def events(self) -> list[dict]:
        """Those that were told and not yet asked for."""
        lines = self.guest.run(f"tail -n +{self.events_read + 1} /var/lib/salad-edge/events.jsonl").splitlines()
        self.events_read += len(lines)
        self.waiting += [event for event in map(json.loads, lines) if event["kind"] != "update"]
        return self.waiting

    def event(self, subject: str, kind: str) -> dict:
        """The next event, which has to be this one. It has longer than is allowed, so that a late one is told as late."""
        event = self.until(2 * RECOVERY, f"{subject} {kind} is told", self.events).pop(0)
        expect((event["subject"], event["kind"]) == (subject, kind), f"{subject} {kind} is the next event, not {event}")
        return event

    def until(self, limit: float, what: str, look):
        end = time.monotonic() + limit
        while not (found := look()):
            expect(time.monotonic() < end, f"within {limit} s {what}")
            time.sleep(0.3)
        return found


def expect(condition, what: str) -> None:
    if not condition:
        raise GuestError(f"expected: {what}")


def seconds(time_stamp: str) -> float:
    """Of an RFC 3339 time in UTC, since 1970."""
    whole, _, fraction = time_stamp.rstrip("Z").partition(".")
    return datetime.datetime.fromisoformat(whole + "+00:00").timestamp() + float(f"0.{fraction or 0}")


def main(archs: list[str]) -> None:
    missing = []
    for arch in archs:
        start, trial = time.monotonic(), Trial(arch)
        try:
            trial.run()
        except GuestError as error:
            missing.append(f"{arch}: {error}")
        trial.say(f"{time.monotonic() - start:6.1f} s  in all")
    for line in missing:
        print(f"test-camera: FAILED: {line}", file=sys.stderr)
    sys.exit(1 if missing else 0)


if __name__ == "__main__":
    main(sys.argv[1:] or ["amd64", "arm64"])
