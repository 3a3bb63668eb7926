#!/usr/bin/env python3
"""The heavier tests of flash.py, by make test-flash: images with a real Debian arm64 root, and a device behind a real sshd.

As root, on Debian or Ubuntu. What is missing is installed by apt; the root is made once, by mmdebstrap under user-mode
emulation, and kept in target/flash-test. The device is that root behind sshd's ChrootDirectory: shell, dpkg and files are the
real ones of arm64; systemctl is a stand-in, since no systemd runs there, and it takes its cue from the bundle.
--package and --bundle take the shipped ones in place of stand-ins for the tests of images.
"""

import argparse
import contextlib
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time
import unittest

from flash_package import BUNDLE, CONFIG, file_sha256

ROOT = pathlib.Path(__file__).resolve().parent.parent
WORK = ROOT / "target/flash-test"
FLASH = ROOT / "scripts/flash.py"
TOOLS = {"mmdebstrap": "mmdebstrap", "qemu-aarch64-static": "qemu-user-static", "sshd": "openssh-server", "dpkg-deb": "dpkg",
         "ssh-keygen": "openssh-client", "mkfs.vfat": "dosfstools", "mkfs.ext4": "e2fsprogs", "sfdisk": "fdisk"}
SBIN = os.environ["PATH"] + ":/usr/sbin:/sbin"
MIB = 1 << 20
PORT = 20022
# Answers inspect; a bundle is good when it says so.
PROGRAM = """#!/bin/sh
[ "$1" = inspect ] && exec grep -q '^bundle' "$2"
exit 2
"""
UNIT = """[Service]
Type=notify
NotifyAccess=all
ExecStart=/usr/bin/salad-edge run --config /etc/salad-edge/edge.toml

[Install]
WantedBy=multi-user.target
"""
SYSTEMCTL = """#!/bin/sh
# A stand-in: a service whose health the bundle and the configuration name.
state=/var/lib/fake-systemd; mkdir -p $state
says() { grep -qs "$1" /var/lib/salad-edge/model.salad /etc/salad-edge/edge.toml; }
active() {
  [ -e $state/started ] || return 1
  ! says dies-later || [ $(($(date +%s) - $(cat $state/started))) -lt 3 ]
}
echo "$*" >>$state/log
case "$*" in
  "restart salad-edge") rm -f $state/started; says never-ready && exit 1; date +%s >$state/started ;;
  "stop salad-edge") rm -f $state/started ;;
  "is-active salad-edge") if active; then echo active; else echo failed; exit 3; fi ;;
  "is-enabled --quiet salad-edge") [ -e $state/enabled ] ;;
  "enable salad-edge") : >$state/enabled ;;
  "disable salad-edge") rm -f $state/enabled ;;
  "show --property=MainPID"*) echo 4711 ;;
  "show --property=WatchdogUSec"*) echo 1min ;;
  "show --property=WatchdogTimestamp"*) says silent || echo "Wed 2026-11-25" ;;
  "show --property=StatusText"*) echo "camera works" ;;
esac
"""


def run(*command, **more):
    check = more.pop("check", True)
    done = subprocess.run([str(part) for part in command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          env={**os.environ, "PATH": SBIN}, check=False, **more)
    if check and done.returncode:
        raise AssertionError(f"{command[0]}: {done.returncode}: {done.stdout}")
    return done


def flash(*arguments):
    """flash.py: exit code and what it said."""
    done = run(sys.executable, FLASH, *arguments, check=False, stdin=subprocess.DEVNULL)
    print(done.stdout, flush=True)
    return done.returncode, done.stdout


def set_up():
    missing = sorted({package for tool, package in TOOLS.items() if not shutil.which(tool, path=SBIN)})
    if missing:
        print(f"test-flash: installing {' '.join(missing)}", flush=True)
        run("apt-get", "update", "-qq")
        run("apt-get", "install", "-y", "-qq", "--no-install-recommends", *missing)
    binfmt = pathlib.Path("/proc/sys/fs/binfmt_misc")
    if not (binfmt / "register").exists():
        run("mount", "-t", "binfmt_misc", "binfmt_misc", binfmt)
    if not (binfmt / "qemu-aarch64").exists():
        (binfmt / "register").write_bytes(pathlib.Path("/usr/lib/binfmt.d/qemu-aarch64.conf").read_bytes().strip())
    WORK.mkdir(parents=True, exist_ok=True)
    if not (WORK / "root-arm64.tar").exists():
        print("test-flash: making a Debian arm64 root, once; minutes", flush=True)
        # By its name, mmdebstrap would make a folder of it.
        options = ["--format=tar", "--arch=arm64", "--variant=minbase", "--include=systemd,openssh-server"]
        run("mmdebstrap", *options, "bookworm", WORK / "root.part")
        os.rename(WORK / "root.part", WORK / "root-arm64.tar")
    if not (WORK / "root").exists():
        shutil.rmtree(WORK / "root.part", ignore_errors=True)
        (WORK / "root.part").mkdir()
        run("tar", "-C", WORK / "root.part", "-xf", WORK / "root-arm64.tar")
        os.rename(WORK / "root.part", WORK / "root")


def make_deb(version, architecture="arm64", depends="libc6 (>= 2.34)", postinst=None):
    """A stand-in for the package, with its paths."""
    tree = WORK / f"tree-{version}-{architecture}"
    shutil.rmtree(tree, ignore_errors=True)
    files = {"DEBIAN/control": f"Package: salad-edge\nVersion: {version}\nArchitecture: {architecture}\nMaintainer: test <test>\n"
                               f"Depends: {depends}\nDescription: stand-in\n",
             "DEBIAN/conffiles": f"{CONFIG}\n", "usr/bin/salad-edge": PROGRAM, "lib/systemd/system/salad-edge.service": UNIT,
             CONFIG[1:]: f"# the package's {version}\n", "usr/share/doc/salad-edge/version": f"{version}\n"}
    if postinst:
        files["DEBIAN/postinst"] = f"#!/bin/sh\n{postinst}\n"
    for name, text in files.items():
        path = tree / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(0o755 if name in ("usr/bin/salad-edge", "DEBIAN/postinst") else 0o644)
    sums = run("md5sum", *(name for name in files if not name.startswith(("DEBIAN", "etc"))), cwd=tree).stdout
    (tree / "DEBIAN/md5sums").write_text(sums)
    out = WORK / f"salad-edge_{version}_{architecture}.deb"
    run("dpkg-deb", "-Zgzip", "--root-owner-group", "--build", tree, out)
    shutil.rmtree(tree)
    return out


def write(name, text):
    (WORK / name).write_text(text)
    return WORK / name


def make_image(name, script, root_sector, boot_sector):
    """An image file: a table by sfdisk, a FAT partition, and the arm64 root."""
    image = WORK / name
    image.unlink(missing_ok=True)
    with open(image, "xb") as file:
        file.truncate(900 * MIB)
    run("sfdisk", "-q", image, input=script)
    run("mkfs.vfat", "-F", 32, "--mbr=n", "--offset", boot_sector, image, 64 * 1024)
    run("mkfs.ext4", "-q", "-d", WORK / "root", "-E", f"offset={root_sector * 512}", image, "800M")
    return image


def mbr_image(name="pi.img"):
    return make_image(name, "label: dos\nstart=8192,size=64M,type=c\nstart=139264,size=800M,type=83\n", 139264, 8192)


def gpt_image(name="jetson.img"):
    return make_image(name, "label: gpt\nstart=139264,size=800M,name=APP\nstart=8192,size=64M,name=esp,type=uefi\n", 139264, 8192)


@contextlib.contextmanager
def opened(image, sector=139264):
    """The root partition of an image, mounted read-only."""
    folder = WORK / "mounted"
    folder.mkdir(exist_ok=True)
    run("mount", "-o", f"ro,noload,loop,offset={sector * 512},sizelimit={800 * MIB}", image, folder)
    try:
        yield folder
    finally:
        run("umount", folder)


class Images(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.package = OPTIONS.package or make_deb("1.0")
        cls.bundle = OPTIONS.bundle or write("good.salad", "bundle one\n")
        cls.config = write("edge.toml", "# mine\n")
        cls.pi = mbr_image()

    def setUp(self):
        self.out = WORK / "out.img"
        self.out.unlink(missing_ok=True)
        self.addCleanup(self.out.unlink, missing_ok=True)

    def image(self, image, *more, package=None):
        return flash("image", image, "--package", package or self.package, "--bundle", self.bundle, *more)

    def assert_flashed(self, image):
        with opened(image) as root:
            self.assertEqual(file_sha256(root / BUNDLE[1:]), file_sha256(self.bundle))
            self.assertEqual((root / CONFIG[1:]).read_text(), "# mine\n")
            self.assertTrue((root / "usr/bin/salad-edge").stat().st_mode & 0o100)
            status = (root / "var/lib/dpkg/status").read_text()
            self.assertIn("Package: salad-edge\nStatus: install ok installed", status)
            self.assertTrue(os.path.lexists(root / "etc/systemd/system/multi-user.target.wants/salad-edge.service"))
            self.assertFalse((root / "var/lib/salad-flash/install.deb").exists())

    def test_raspberry_like_image_by_its_own_dpkg(self):
        key = write("key.pub", "ssh-ed25519 AAAAC3Nza device\n")
        before = file_sha256(self.pi)
        code, said = self.image(self.pi, "--out", self.out, "--config", self.config, "--hostname", "line-4", "--ssh-key", key)
        self.assertEqual(code, 0, said)
        self.assertEqual(file_sha256(self.pi), before)
        self.assert_flashed(self.out)
        with opened(self.out) as root:
            self.assertEqual((root / "etc/hostname").read_text(), "line-4\n")
            self.assertIn("127.0.1.1\tline-4\n", (root / "etc/hosts").read_text())
            self.assertEqual((root / "root/.ssh/authorized_keys").read_text(), key.read_text())
            self.assertEqual((root / "root/.ssh").stat().st_mode & 0o777, 0o700)
            self.assertTrue(os.path.lexists(root / "etc/systemd/system/multi-user.target.wants/ssh.service"))
        # Again, in place: an existing configuration stays.
        code, said = self.image(self.out, "--in-place")
        self.assertEqual(code, 0, said)
        self.assert_flashed(self.out)

    def test_jetson_like_card_with_an_app_partition(self):
        image = gpt_image()
        card = run("losetup", "--find", "--show", image).stdout.strip()
        try:
            code, said = self.image(card, "--config", self.config)
            self.assertEqual(code, 0, said)
            self.assertIn("partition 1 APP", said)
        finally:
            run("losetup", "--detach", card)
        self.assert_flashed(image)

    def test_at_the_first_boot(self):
        code, said = self.image(self.pi, "--out", self.out, "--first-boot", "--config", self.config)
        self.assertEqual(code, 0, said)
        with opened(self.out) as root:
            self.assertEqual(file_sha256(root / "var/lib/salad-flash/first-boot.deb"), file_sha256(self.package))
            self.assertTrue(os.path.lexists(root / "etc/systemd/system/multi-user.target.wants/salad-flash.service"))
            self.assertEqual(file_sha256(root / BUNDLE[1:]), file_sha256(self.bundle))
            self.assertNotIn("Package: salad-edge\n", (root / "var/lib/dpkg/status").read_text())
            verified = run("systemd-analyze", "verify", "--man=no", f"--root={root}", "salad-flash.service", check=False).stdout
            self.assertNotIn("salad-flash", verified)

    def test_refusals_leave_nothing(self):
        cases = [
            (["--out", self.out], {"package": make_deb("1.0", "armhf")}, "is for armhf and the system for arm64"),
            (["--out", self.out], {"package": make_deb("2.1", depends="libc6 (>= 2.99)")}, "needs libc6 (>= 2.99)"),
            (["--out", self.out], {"package": make_deb("2.2", depends="not-there")}, "needs not-there"),
            (["--out", self.out], {"package": make_deb("2.3", postinst="exit 7")}, "could not be installed"),
            (["--out", self.pi], {}, "is there already"),
            ([], {}, "say --out"),
        ]
        for more, package, expected in cases:
            code, said = self.image(self.pi, *more, **package)
            self.assertEqual(code, 1, said)
            self.assertIn(expected, said)
            self.assertFalse(self.out.exists() or pathlib.Path(f"{self.out}.part").exists())
        refused = write("refused.salad", "garbage\n")
        code, said = flash("image", self.pi, "--package", self.package, "--bundle", refused, "--out", self.out)
        self.assertEqual((code, "does not suit" in said), (1, True), said)
        self.assertFalse(self.out.exists())

    def test_a_mounted_image_or_card_is_refused(self):
        for more in (["--out", self.out], ["--in-place"]):
            with opened(self.pi):
                code, said = self.image(self.pi, *more)
            self.assertEqual((code, "is in use as /dev/loop" in said), (1, True), said)
        image = mbr_image("busy.img")
        # Not every kernel has FAT.
        run("mkfs.ext4", "-q", "-F", "-E", f"offset={8192 * 512}", image, "64M")
        card = run("losetup", "--find", "--show", image).stdout.strip()
        # Not every kernel reads this table by itself.
        run("partx", "--add", card)
        folder = WORK / "mounted"
        folder.mkdir(exist_ok=True)
        try:
            code, said = self.image(f"{card}p2")
            self.assertEqual((code, "is a partition" in said), (1, True), said)
            for partition, known, expected in (("p1", [], "is mounted at"), ("p2", [], "is mounted at"),
                                               ("p2", ["--i-know-this-disk"], "is mounted or in use")):
                run("mount", card + partition, folder)
                code, said = self.image(card, *known)
                run("umount", folder)
                self.assertEqual((code, expected in said), (1, True), said)
            run("mount", card + "p1", folder)
            code, said = self.image(card, "--i-know-this-disk")
            run("umount", folder)
            self.assertEqual(code, 0, said)
        finally:
            run("partx", "--delete", card)
            run("losetup", "--detach", card)

    def test_stopped_in_the_middle_it_leaves_nothing(self):
        slow = make_deb("3.0", postinst="sleep 60")
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
            process = subprocess.Popen([sys.executable, FLASH, "image", self.pi, "--package", slow, "--bundle", self.bundle,
                                        "--out", self.out])
            part = pathlib.Path(f"{self.out}.part")
            deadline = time.monotonic() + 60
            loops = ""
            while not loops and time.monotonic() < deadline:
                time.sleep(0.2)
                loops = run("losetup", "--associated", part).stdout if part.exists() else ""
            time.sleep(5)
            process.send_signal(number)
            process.wait(timeout=30)
            self.assertTrue(loops)
            self.assertFalse(self.out.exists())
            if number == signal.SIGKILL:
                part.unlink()
            time.sleep(1)
            self.assertFalse(part.exists())
            self.assertNotIn("out.img", run("losetup", "--list").stdout)
            self.assertNotIn("salad-flash-", pathlib.Path("/proc/self/mountinfo").read_text())

    def test_dry_run_changes_nothing(self):
        before = file_sha256(self.pi)
        code, said = self.image(self.pi, "--dry-run")
        self.assertEqual((code, "would install" in said), (0, True), said)
        self.assertEqual(file_sha256(self.pi), before)


class Ssh(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.root = WORK / "device"
        for folder in ("proc", "dev"):
            run("umount", cls.root / folder, check=False)
        shutil.rmtree(cls.root, ignore_errors=True)
        run("cp", "-a", WORK / "root", cls.root)
        (cls.root / "usr/local/bin/systemctl").write_text(SYSTEMCTL)
        (cls.root / "usr/local/bin/systemctl").chmod(0o755)
        (cls.root / "run/systemd/system").mkdir(parents=True)
        run("mount", "-t", "proc", "proc", cls.root / "proc")
        cls.addClassCleanup(run, "umount", cls.root / "proc")
        keys = WORK / "keys"
        shutil.rmtree(keys, ignore_errors=True)
        keys.mkdir(mode=0o700)
        for name in ("host", "user"):
            run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", keys / name)
        (keys / "known").write_text(f"[127.0.0.1]:{PORT} {(keys / 'host.pub').read_text()}")
        config = write("sshd_config", f"Port {PORT}\nListenAddress 127.0.0.1\nHostKey {keys}/host\nPidFile none\nUsePAM no\n"
                       f"AuthorizedKeysFile {keys}/user.pub\nStrictModes no\nPermitRootLogin prohibit-password\n"
                       f"ChrootDirectory {cls.root}\nSetEnv PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n")
        pathlib.Path("/run/sshd").mkdir(exist_ok=True)
        sshd = shutil.which("sshd", path=SBIN)
        cls.sshd = subprocess.Popen([sshd, "-D", "-f", config], stderr=subprocess.DEVNULL)
        cls.addClassCleanup(cls.sshd.wait)
        cls.addClassCleanup(cls.sshd.terminate)
        time.sleep(1)
        cls.access = ["root@127.0.0.1", "--port", PORT, "--identity", keys / "user", "--seconds", 5,
                      "--ssh-option", f"UserKnownHostsFile={keys}/known"]
        cls.good = write("good.salad", "bundle one\n")
        cls.config = write("edge.toml", "# mine\n")
        cls.v1, cls.v2 = make_deb("1.0"), make_deb("2.0")

    def ssh(self, package, bundle, *more):
        return flash("ssh", *self.access, "--package", package, "--bundle", bundle, *more)

    def assert_device(self, version, bundle, config):
        self.assertEqual((self.root / "usr/share/doc/salad-edge/version").read_text(), f"{version}\n")
        self.assertEqual((self.root / BUNDLE[1:]).read_text(), bundle)
        self.assertEqual((self.root / CONFIG[1:]).read_text(), config)
        shown = run("chroot", self.root, "dpkg-query", "-W", "-f", "${db:Status-Abbrev}${Version}", "salad-edge").stdout
        self.assertEqual(shown, f"ii {version}")
        self.assertFalse((self.root / "var/lib/salad-flash/pending").exists())
        self.assertEqual(list((self.root / "var/tmp").iterdir()), [])

    def test_a_life(self):
        """One device, in the order of a life: each step starts from where the one before has ended."""
        with self.subTest("a first flash that fails leaves nothing"):
            code, said = self.ssh(self.v1, write("bad.salad", "bundle never-ready\n"))
            self.assertEqual((code, "rolled back" in said, "no salad-edge" in said), (1, True, True), said)
            self.assertFalse((self.root / "usr/bin/salad-edge").exists() or (self.root / BUNDLE[1:]).exists())
        with self.subTest("a first flash"):
            code, said = self.ssh(self.v1, self.good, "--config", self.config)
            self.assertEqual((code, "healthy" in said), (0, True), said)
            self.assert_device("1.0", "bundle one\n", "# mine\n")
        for text in ("bundle never-ready\n", "bundle dies-later\n", "bundle silent\n"):
            with self.subTest("an update that is not healthy", bundle=text):
                code, said = self.ssh(self.v2, write("bad.salad", text), "--config", write("new.toml", "# new\n"))
                self.assertEqual((code, "rolled back" in said), (1, True), said)
                self.assert_device("1.0", "bundle one\n", "# mine\n")
        with self.subTest("a package that cannot be installed"):
            code, said = self.ssh(make_deb("2.1", postinst="exit 7"), self.good)
            self.assertEqual((code, "the installation failed" in said, "rolled back" in said), (1, True, True), said)
            self.assert_device("1.0", "bundle one\n", "# mine\n")
        with self.subTest("a bundle the program refuses changes nothing"):
            code, said = self.ssh(self.v2, write("refused.salad", "garbage\n"))
            self.assertEqual((code, "not changed" in said), (1, True), said)
            self.assert_device("1.0", "bundle one\n", "# mine\n")
        with self.subTest("an update"):
            code, said = self.ssh(self.v2, write("two.salad", "bundle two\n"))
            self.assertEqual(code, 0, said)
            self.assert_device("2.0", "bundle two\n", "# mine\n")
        with self.subTest("back by hand"):
            code, said = flash("rollback", *self.access)
            self.assertEqual(code, 0, said)
            self.assert_device("1.0", "bundle one\n", "# mine\n")
        with self.subTest("over a package that somebody else installed"):
            shutil.copy(make_deb("1.5"), self.root / "opt/hand.deb")
            run("chroot", self.root, "dpkg", "--force-confold", "-i", "/opt/hand.deb")
            code, said = self.ssh(self.v2, write("bad.salad", "bundle never-ready\n"))
            self.assertEqual((code, "rolled back" in said), (1, True), said)
            self.assert_device("1.5", "bundle one\n", "# mine\n")
        with self.subTest("a flash whose device lost power goes back first"):
            previous = self.root / "var/lib/salad-flash/previous"
            (previous.parent / "pending").touch()
            (self.root / BUNDLE[1:]).write_text("torn")
            code, said = self.ssh(self.v2, self.good)
            self.assertEqual((code, "interrupted" in said), (0, True), said)
            self.assert_device("2.0", "bundle one\n", "# mine\n")
            self.assertEqual((previous / "version").read_text(), "1.5\n")

    def test_the_connection_is_lost(self):
        """The device goes on by itself: its ssh sessions are cut in the middle, and flash.py still learns the result."""
        command = [sys.executable, FLASH, "ssh", *map(str, self.access), "--package", self.v2, "--bundle", self.good]
        process = subprocess.Popen(command + ["--seconds", "8"], stdout=subprocess.PIPE, text=True)
        self.addCleanup(process.stdout.close)
        said = ""
        for line in process.stdout:
            said += line
            if "kept what is there" in line and "connection was lost" not in said:
                for child in run("ps", "--ppid", self.sshd.pid, "-o", "pid=").stdout.split():
                    os.kill(int(child), signal.SIGKILL)
        self.assertEqual((process.wait(), "connection was lost" in said), (0, True), said)
        self.assert_device("2.0", "bundle one\n", (self.root / CONFIG[1:]).read_text())

    def test_refusals(self):
        cases = [(["--package", make_deb("1.0", "amd64")], "is for amd64 and the system for arm64"),
                 (["--package", make_deb("3.0", depends="libc6 (>= 2.99)")], "needs libc6 (>= 2.99)"),
                 (["--package", self.v1, "--port", PORT + 1], "cannot be reached")]
        for more, expected in cases:
            code, said = flash("ssh", *self.access, "--bundle", self.good, *more)
            self.assertEqual((code, expected in said), (1, True), said)


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--package", type=pathlib.Path)
    arguments.add_argument("--bundle", type=pathlib.Path)
    OPTIONS, rest = arguments.parse_known_args()
    if os.geteuid():
        sys.exit("test-flash: mounting takes root: sudo make test-flash")
    set_up()
    unittest.main(argv=[sys.argv[0], *rest])
