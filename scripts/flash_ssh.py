"""flash.py's way to a running device over ssh: looks at it, sends package, bundle and configuration, and has
flash-device.sh install them there, check the service and, where it is not healthy, go back to what was there before.

No local shell sees an argument, and every word of a remote command is quoted. The device's part goes on by itself when the
connection is lost.
"""

import io
import os
import pathlib
import shlex
import subprocess
import tarfile
import time

from flash_disk import tool
from flash_package import FlashError, Package, System, file_sha256, find_package

SCRIPT = pathlib.Path(__file__).resolve().with_name("flash-device.sh")
# Exit codes of flash-device.sh, and ssh's own.
REFUSED, ROLLED_BACK, LOST = 1, 2, 255
MARK = "--- status"
# Folders whose file systems are written to.
FOLDERS = ["/var/tmp", "/usr", "/var/lib"]
PROBE = f"""echo uid=$(id -u); echo systemd=$([ -d /run/systemd/system ] && echo yes)
echo sudo=$(sudo -n true 2>/dev/null && echo yes); echo architecture=$(dpkg --print-architecture)
echo glibc=$(getconf GNU_LIBC_VERSION)
echo free=$(df -Pk {' '.join(FOLDERS)} | awk 'NR > 1 {{print $4}}' | sort -n | head -n 1)
echo '{MARK}'; cat /var/lib/dpkg/status"""
# What a device writes while a flash goes on: a log, and at the end the exit code.
START = """set -u; cd {stage}; : >log
{root}setsid --wait sh -c 'umask 022; sh ./flash-device.sh "$@" >log 2>&1; echo $? >result' sh {action} \\
  </dev/null >/dev/null 2>&1 &
job=$!; tail -n +1 -f -s 0.2 --pid=$job log; wait $job; exit $(cat result || echo 3)"""
# So long a lost connection is tried again, seconds; beyond the time that the device's own limits allow.
PATIENCE_SECS = 600


def flash_ssh(options, say):
    """The whole way, by the options of flash.py ssh."""
    device = Device(options)
    probe, system = device.probe()
    package = Package(options.package) if options.package else find_package(system.architecture, options.packages)
    package.check(system)
    check_device(options.device, probe, system, package, options)
    say(f"{options.device}: {system.architecture}, {probe['glibc']}, {system.installed.get('salad-edge', 'no')} salad-edge")
    if options.dry_run:
        say(f"would install {package}" + "".join(f", {path}" for path in (options.bundle, options.config) if path))
        return
    stage = device.stage(package, options)
    device.act(stage, ["install", stage, str(options.seconds)], say)
    say(f"{options.device}: {package} is installed and healthy")


def rollback_ssh(options, say):
    """Goes back to what was on the device before its last flash."""
    device = Device(options)
    device.probe()
    stage = device.stage(None, options)
    device.act(stage, ["rollback", str(options.seconds)], say)
    say(f"{options.device}: back to what was there before the last flash")


def check_device(name, probe, system, package, options):
    if probe["architecture"] != system.architecture:
        raise FlashError(f"{name} says {probe['architecture']} and its dpkg status {system.architecture}: repair dpkg there")
    if probe["systemd"] != "yes":
        raise FlashError(f"{name} does not run systemd, which starts salad-edge: use another system there")
    # Sent, unpacked, installed, and what is replaced is kept.
    needed = 2 * package.size + 3 * package.installed_bytes + 3 * sum(os.path.getsize(p) for p in [options.bundle] if p)
    if int(probe["free"] or 0) * 1024 < needed:
        raise FlashError(f"{name} has {int(probe['free'] or 0) >> 10} MiB free and {needed >> 20} MiB are needed: free some")


class Device:
    """A device that ssh reaches."""

    def __init__(self, options):
        self.name = options.device
        if not self.name or self.name.startswith("-"):
            raise FlashError(f"{self.name!r} is no device: name one as user@host")
        self.command = [tool("ssh"), "-o", "BatchMode=yes", "-o", "ConnectTimeout=15", "-o", "ServerAliveInterval=10"]
        self.command += [part for option in options.ssh_option for part in ("-o", option)]
        self.command += ["-p", str(options.port)] * bool(options.port) + ["-i", options.identity] * bool(options.identity)
        self.root = []

    def ssh(self, script, data=b""):
        """Runs a script in the device's shell: exit code, standard output, last line of standard error."""
        done = subprocess.run([*self.command, "--", self.name, script], input=data, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, check=False)
        said = done.stderr.decode("utf-8", "replace").strip().splitlines()
        return done.returncode, done.stdout.decode("utf-8", "replace"), said[-1] if said else ""

    def asked(self, script, what, data=b""):
        code, out, said = self.ssh(script, data)
        if code == LOST:
            name = shlex.quote(self.name)
            remedy = f"it takes a key: ssh-copy-id {name}" if "Permission denied" in said else f"try ssh {name} by hand"
            raise FlashError(f"{self.name} cannot be reached ({said}): {remedy}")
        if code:
            raise FlashError(f"{self.name}: {what} failed ({said or code}): put that right there first")
        return out

    def probe(self):
        """What the device is, and what dpkg has installed there."""
        # sh, whatever the user's own shell is.
        head, _, status = self.asked(shlex.join(["sh", "-c", PROBE]), "looking at it").partition(MARK)
        probe = dict(line.partition("=")[::2] for line in head.splitlines())
        if probe.get("uid") != "0":
            if probe.get("sudo") != "yes":
                raise FlashError(f"{self.name} lets this user not become root: log in as root, or allow sudo with no password")
            self.root = ["sudo", "-n"]
        return probe, System(status)

    def stage(self, package, options):
        """Sends the files into a new folder of the user; its path."""
        stage = self.asked("mktemp -d /var/tmp/salad-flash.XXXXXXXX", "making a folder in /var/tmp").strip()
        files = {"flash-device.sh": SCRIPT}
        if package:
            files["package.deb"] = package.path
            files.update({name: path for name, path in (("model.salad", options.bundle), ("edge.toml", options.config)) if path})
        archive = io.BytesIO()
        with tarfile.open(fileobj=archive, mode="w") as tar:
            for name, path in files.items():
                tar.add(path, name, filter=plain)
            sums = "".join(f"{file_sha256(path)}  {name}\n" for name, path in files.items()).encode()
            info = tarfile.TarInfo("sums")
            info.size = len(sums)
            tar.addfile(info, io.BytesIO(sums))
        self.asked(shlex.join(["tar", "-xf", "-", "-C", stage]), "receiving the files", archive.getvalue())
        return stage

    def act(self, stage, action, say):
        """Runs flash-device.sh there and tells what it says. A connection that is lost is taken up again."""
        start = START.format(stage=shlex.quote(stage), root="".join(f"{word} " for word in self.root), action=shlex.join(action))
        command = [*self.command, "--", self.name, shlex.join(["sh", "-c", start])]
        with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
            for line in process.stdout:
                say(line.decode("utf-8", "replace").rstrip())
        code = process.returncode if process.returncode != LOST else self.wait(stage, say)
        self.ssh(shlex.join([*self.root, "rm", "-rf", stage]))
        if code == ROLLED_BACK:
            raise FlashError(f"{self.name} was not flashed: the new state was not healthy and it was rolled back, see above")
        if code == REFUSED:
            raise FlashError(f"{self.name} was not flashed and not changed: see above")
        if code:
            raise FlashError(f"{self.name} is neither in the new state nor in the old one ({code}): see above, repair it there")

    def wait(self, stage, say):
        """The result of a run whose connection was lost."""
        say("the connection was lost; the device goes on by itself, and is asked again")
        end = time.monotonic() + PATIENCE_SECS
        while time.monotonic() < end:
            time.sleep(5)
            code, out, _ = self.ssh(f"cat {shlex.quote(stage)}/log; echo; cat {shlex.quote(stage)}/result")
            if code == 0:
                *log, result = out.strip().splitlines()
                say("\n".join(log))
                return int(result)
        raise FlashError(f"{self.name} does not answer any more: when it does, its log is {stage}/log")


def plain(info):
    """A file for the device: nobody's in particular."""
    info.uid = info.gid = 0
    info.uname = info.gname = ""
    info.mode = 0o644
    return info
