"""An emulated machine with Debian's kernel, systemd and a camera, and a shell on its serial console."""

import os
import pathlib
import queue
import re
import subprocess
import threading
import time

# The end of a command's output, with its exit status.
END = re.compile(r"^@@ (\d+)$")

# cortex-a72 is the Raspberry Pi 4's, and emulated several times as fast as qemu's default of all features.
MACHINE = {
    "amd64": ["qemu-system-x86_64", "-machine", "q35", "-cpu", "max", "-append", "console=ttyS0"],
    "arm64": ["qemu-system-aarch64", "-machine", "virt", "-cpu", "cortex-a72", "-append", "console=ttyAMA0"],
}
BOOT = ("quiet loglevel=3 panic=-1 rdinit=/lib/systemd/systemd systemd.show_status=0 audit=0 mitigations=off "
        "random.trust_cpu=on cryptomgr.notests rcupdate.rcu_expedited=1")


class GuestError(Exception):
    """What a guest did not do."""


class Guest:
    """A machine that runs; `share` is the host's folder that it has as /share."""

    def __init__(self, arch: str, kernel: pathlib.Path, root: pathlib.Path, share: pathlib.Path, log: pathlib.Path):
        command = list(MACHINE[arch])
        command[-1] += f" {BOOT}"
        self.acceleration = "KVM" if kvm_works(arch, kernel) else "emulated"
        command += ["-accel", "kvm" if self.acceleration == "KVM" else "tcg,thread=multi", "-smp", "2", "-m", "1024",
                    "-kernel", str(kernel), "-initrd", str(root), "-nodefaults", "-display", "none", "-no-reboot",
                    "-serial", "stdio", "-virtfs", f"local,path={share},mount_tag=host,security_model=none"]
        self.log = log.open("w", encoding="utf-8")
        self.lines: queue.Queue[str | None] = queue.Queue()
        self.machine = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        threading.Thread(target=self._read, daemon=True).start()
        try:
            self._until(lambda line: line == "guest: up", 300, "its shell is up")
            # A machine without a clock of its own starts in the past.
            self.run(f"date -s @{time.time():.3f}")
        except BaseException:
            self.close()
            raise

    def run(self, command: str, seconds: float = 120, check: bool = True) -> str:
        """Runs a line of shell and gives what it prints."""
        self._write(f"{{ {command}; }} </dev/null 2>&1; echo; echo \"@@ $?\"\n")
        lines = self._until(END.match, seconds, command)
        if check and lines[-1] != "@@ 0":
            raise GuestError(f"`{command}` ended with {lines[-1][3:]}:\n" + "\n".join(lines[:-1]))
        return "\n".join(lines[:-1]).strip()

    def close(self) -> None:
        """Switches it off at once: nothing in it is to last."""
        self.machine.kill()
        self.machine.wait()
        self.log.close()

    def _write(self, text: str) -> None:
        self.machine.stdin.write(text.encode())
        self.machine.stdin.flush()

    def _read(self) -> None:
        for line in self.machine.stdout:
            text = line.decode(errors="replace").rstrip("\r\n")
            self.log.write(f"{time.monotonic():.3f} {text}\n")
            self.log.flush()
            self.lines.put(text)
        self.lines.put(None)

    def _until(self, wanted, seconds: float, what: str) -> list[str]:
        end, lines = time.monotonic() + seconds, []
        while True:
            try:
                line = self.lines.get(timeout=max(0.0, end - time.monotonic()))
            except queue.Empty:
                raise GuestError(f"not within {seconds:.0f} s: {what}; its console: {self.log.name}") from None
            if line is None:
                raise GuestError(f"the machine stopped before: {what}; its console: {self.log.name}")
            if "emergency mode" in line:
                raise GuestError(f"the machine did not start up; its console: {self.log.name}")
            lines.append(line)
            if wanted(line):
                return lines


def kvm_works(arch: str, kernel: pathlib.Path) -> bool:
    """Whether this machine runs the guest's kernel by itself: nested in another machine it may have KVM that does not work."""
    if arch != "amd64" or os.uname().machine != "x86_64" or not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return False
    command = [*MACHINE[arch], "-accel", "kvm", "-kernel", str(kernel), "-nodefaults", "-display", "none", "-serial", "stdio"]
    machine = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    limit = threading.Timer(6, machine.kill)
    limit.start()
    # With no root the kernel panics, which it has to be alive for; where KVM fails, qemu says so and stands still.
    ends = (line for line in machine.stdout if b"Kernel panic" in line or b"KVM internal error" in line)
    works = b"Kernel panic" in next(ends, b"")
    limit.cancel()
    machine.kill()
    machine.wait()
    return works
