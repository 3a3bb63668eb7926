"""Tests of flash.py that need neither root nor a device: python3 -m unittest discover scripts. test-flash.py has the others."""

import contextlib
import io
import json
import os
import pathlib
import shlex
import struct
import subprocess
import sys
import tarfile
import tempfile
import unittest
import zlib

from flash_disk import Partition, check_disk, check_image, read_partitions
from flash_image import excluded, inside, put
from flash_package import FlashError, Package, System, compare_versions, find_package

HERE = pathlib.Path(__file__).resolve().parent
SECTOR = 512
STATUS = """Package: dpkg
Status: install ok installed
Architecture: arm64
Version: 1.21.22

Package: libc6
Status: install ok installed
Architecture: arm64
Version: 2.36-9+deb12u14

Package: mawk
Status: install ok installed
Version: 1.3
Provides: awk, nawk (= 2.0)

Package: salad-edge
Status: deinstall ok config-files
Version: 0.1
"""


class Folder(unittest.TestCase):
    def setUp(self):
        temporary = tempfile.TemporaryDirectory()
        self.addCleanup(temporary.cleanup)
        self.folder = pathlib.Path(os.path.realpath(temporary.name))

    def write(self, name, content, mode=0o644):
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        path.chmod(mode)
        return path


def entry(kind, start, count):
    return struct.pack("<B3xB3xII", 0, kind, start, count)


def table(*entries):
    """A sector with up to four entries of a DOS partition table."""
    return bytes(446) + b"".join(entries).ljust(64, b"\0") + b"\x55\xaa"


def gpt(partitions, sectors):
    """A disk with a GPT at both ends: (number, first, last, name)."""
    entries = bytearray(128 * 128)
    for number, first, last, name in partitions:
        raw = b"\1" * 32 + struct.pack("<QQQ", first, last, 0) + name.encode("utf-16-le").ljust(72, b"\0")
        entries[128 * (number - 1) : 128 * number] = raw
    disk = bytearray(sectors * SECTOR)
    disk[:SECTOR] = table(entry(0xEE, 1, sectors - 1))
    for own, entries_at in ((1, 2), (sectors - 1, sectors - 33)):
        head = bytearray(struct.pack("<8sIIIIQQQQ16sQIII", b"EFI PART", 0x10000, 92, 0, 0, own, sectors - own, 34, sectors - 34,
                                     b"\2" * 16, entries_at, 128, 128, zlib.crc32(entries)))
        struct.pack_into("<I", head, 16, zlib.crc32(head))
        disk[own * SECTOR : own * SECTOR + 92] = head
        disk[entries_at * SECTOR : entries_at * SECTOR + len(entries)] = entries
    return disk


class Tables(Folder):
    def read(self, content, size=None):
        path = self.write("disk.img", bytes(content))
        with open(path, "rb") as file:
            return read_partitions(file, size or len(content))

    def refused(self, content, expected, size=None):
        with self.assertRaises(FlashError) as caught:
            self.read(content, size)
        self.assertIn(expected, str(caught.exception))

    def test_primary_and_logical_partitions(self):
        disk = bytearray(2000 * SECTOR)
        disk[:SECTOR] = table(entry(0x0C, 8, 100), entry(0x83, 200, 300), entry(0x05, 1000, 900))
        disk[1000 * SECTOR : 1001 * SECTOR] = table(entry(0x83, 10, 50), entry(0x05, 100, 100))
        disk[1100 * SECTOR : 1101 * SECTOR] = table(entry(0x82, 20, 60))
        expected = [(1, 8, 100), (2, 200, 300), (5, 1010, 50), (6, 1120, 60)]
        self.assertEqual(self.read(disk), [Partition(n, s * SECTOR, c * SECTOR, "") for n, s, c in expected])

    def test_tables_that_do_not_end_or_are_damaged(self):
        disk = bytearray(2000 * SECTOR)
        disk[:SECTOR] = table(entry(0x05, 1000, 900))
        self.refused(disk, "is damaged")
        disk[1000 * SECTOR : 1001 * SECTOR] = table(entry(0x83, 10, 50), entry(0x05, 100, 1))
        disk[1100 * SECTOR : 1101 * SECTOR] = table(entry(0x83, 10, 50), entry(0x05, 100, 1))
        self.refused(disk, "do not end")

    def test_gpt_and_its_second_table(self):
        disk = gpt([(1, 100, 899, "APP"), (9, 40, 60, "esp")], 1000)
        expected = [Partition(1, 100 * SECTOR, 800 * SECTOR, "APP"), Partition(9, 40 * SECTOR, 21 * SECTOR, "esp")]
        self.assertEqual(self.read(disk), expected)
        disk[3 * SECTOR] ^= 1
        self.assertEqual(self.read(disk), expected)
        disk[-SECTOR] ^= 1
        self.refused(disk, "both GPT")

    def test_what_is_no_disk(self):
        self.refused(bytes(100), "cut short")
        self.refused(bytes(4096), "has no partition table and no ext4")
        self.refused(b"\xfd7zXZ\0".ljust(4096, b"\0"), "unxz -k")
        self.refused(table(entry(0x83, 1, 100)).ljust(4096, b"\0"), "ends at 51712 bytes")
        bare = bytearray(4096)
        bare[1080:1082] = b"\x53\xef"
        self.assertEqual(self.read(bare), [Partition(0, 0, 4096, "")])


class Refusals(Folder):
    """A sysfs of two disks, sda with the system on LUKS or LVM, and sdb."""

    def setUp(self):
        super().setUp()
        for disk, number in (("sda", 0), ("sdb", 16)):
            self.device(f"block/{disk}", f"8:{number}")
            for part in (1, 2):
                self.device(f"block/{disk}/{disk}{part}", f"8:{number + part}", partition=part)
        self.device("block/dm-0", "254:0")
        slaves = self.folder / "sys/block/dm-0/slaves"
        slaves.mkdir()
        (slaves / "sda2").symlink_to(self.folder / "sys/block/sda/sda2")

    def device(self, place, number, partition=None):
        self.write(f"sys/{place}/dev", f"{number}\n")
        self.write(f"sys/{place}/ro", "0\n")
        if partition:
            self.write(f"sys/{place}/partition", f"{partition}\n")
        link = self.folder / "sys/dev/block" / number
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(self.folder / "sys" / place)

    def check(self, number, known=False, mounts=(("254:0", "/"), ("0:22", "/proc"))):
        lines = [f"1 1 {device} / {place} rw - ext4 x rw\n" for device, place in mounts]
        check_disk("/dev/x", number, known, self.folder / "sys", self.write("mountinfo", "".join(lines)))

    def test_only_a_disk_that_is_not_in_use(self):
        self.check("8:16")
        with self.assertRaisesRegex(FlashError, r"holds the running system \(/\)"):
            self.check("8:0")
        with self.assertRaisesRegex(FlashError, "is mounted at /media/my card"):
            self.check("8:16", mounts=[("8:17", r"/media/my\040card")])
        with self.assertRaisesRegex(FlashError, "name the whole card, /dev/sdb"):
            self.check("8:18", known=True)
        self.check("8:0", known=True)

    def test_write_protected(self):
        self.write("sys/block/sdb/ro", "1\n")
        with self.assertRaisesRegex(FlashError, "write-protected"):
            self.check("8:16", known=True)

    def test_an_image_behind_a_loop_device(self):
        image = self.write("my.img", "")
        check_image(image, self.folder / "sys")
        self.write("sys/block/loop7/loop/backing_file", f"{image}\n")
        with self.assertRaisesRegex(FlashError, "in use as /dev/loop7"):
            check_image(image, self.folder / "sys")


class InsideAnImage(Folder):
    def test_no_link_leads_out(self):
        (self.folder / "var/lib/private/x").mkdir(parents=True)
        for name, target in (("etc", "/"), ("up", "../../../.."), ("var/lib/x", "private/x"), ("loop", "loop"),
                             ("var/run", "/var/lib/../lib/x/..")):
            (self.folder / name).symlink_to(target)
        for path, expected in (("/etc/passwd", "passwd"), ("/up/etc/a", "a"), ("/var/lib/x/m", "var/lib/private/x/m"),
                               ("../../y", "y"), ("/var/run/z", "var/lib/private/z")):
            self.assertEqual(inside(self.folder, path), self.folder / expected)
        with self.assertRaisesRegex(FlashError, "does not end"):
            inside(self.folder, "/loop/a")

    @unittest.skipIf(os.geteuid(), "files of the image belong to root")
    def test_a_file_is_replaced_with_its_mode(self):
        self.write("etc/edge.toml", "old", 0o640)
        self.write("etc/edge.toml.new", "left by a power cut")
        written = {}
        put(self.folder, "/etc/edge.toml", b"new", written)
        path = self.folder / "etc/edge.toml"
        self.assertEqual((path.read_text(), path.stat().st_mode & 0o777, os.listdir(path.parent)), ("new", 0o640, ["edge.toml"]))
        self.assertEqual(list(written), ["/etc/edge.toml"])

    def test_files_that_dpkg_leaves_out(self):
        self.write("etc/dpkg/dpkg.cfg.d/slim", "path-exclude=/usr/share/doc/*\npath-include=/usr/share/doc/*/copyright\n")
        paths = ["/usr/share/doc/a/b", "/usr/share/doc/a/copyright", "/usr/bin/a"]
        self.assertEqual(excluded(self.folder, paths), {"/usr/share/doc/a/b"})


def tar_of(files):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:xz") as tar:
        for name, text in files.items():
            info = tarfile.TarInfo(f"./{name}")
            info.size = len(text)
            tar.addfile(info, io.BytesIO(text.encode()))
    return buffer.getvalue()


def deb_of(control, files, member="data.tar.xz"):
    members = [("debian-binary", b"2.0\n"), ("control.tar.xz", tar_of({"control": control, "conffiles": "/etc/c\n"})),
               (member, tar_of(files))]
    return b"!<arch>\n" + b"".join(
        f"{name:<16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(data):<10}`\n".encode() + data + b"\n" * (len(data) % 2)
        for name, data in members
    )


CONTROL = "Package: salad-edge\nVersion: 1.0\nArchitecture: {}\nDepends: {}\n"


class Packages(Folder):
    def package(self, architecture="arm64", depends="libc6 (>= 2.34), mawk", **more):
        return Package(self.write("x.deb", deb_of(CONTROL.format(architecture, depends), {"usr/bin/a": "a"}, **more)))

    def test_what_a_package_says(self):
        package = self.package()
        self.assertEqual((package.version, package.architecture, package.conffiles), ("1.0", "arm64", {"/etc/c"}))
        self.assertEqual(package.files, {"/usr/bin/a": "ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb"})

    def test_what_is_no_package(self):
        whole = deb_of(CONTROL.format("arm64", ""), {})
        for content in (b"", b"garbage", whole[:-40], whole[:200], whole.replace(b"data.tar.xz ", b"data.tar.zst")):
            with self.assertRaisesRegex(FlashError, "not a .deb that can be read"):
                Package(self.write("x.deb", content))
        with self.assertRaisesRegex(FlashError, "is the package hello"):
            Package(self.write("x.deb", deb_of("Package: hello\nVersion: 1\nArchitecture: all\n", {})))
        with self.assertRaisesRegex(FlashError, "cannot be read"):
            Package(self.folder / "none.deb")

    def test_what_a_system_lacks(self):
        system = System(STATUS)
        self.assertNotIn("salad-edge", system.installed)
        self.package().check(system)
        for depends in ("ffmpeg | awk, nawk (>= 2)", "libc6:any (<< 3)"):
            self.package(depends=depends).check(system)
        for depends, expected in (("libc6 (>= 2.99)", "older glibc"), ("mawk (>= 2), curl", r"needs mawk \(>= 2\), curl")):
            with self.assertRaisesRegex(FlashError, expected):
                self.package(depends=depends).check(system)
        with self.assertRaisesRegex(FlashError, "is for armhf and the system for arm64"):
            self.package("armhf").check(system)
        with self.assertRaisesRegex(FlashError, "names no dpkg"):
            System("")

    def test_the_newest_for_the_architecture(self):
        for age, name in ((20, "0.9"), (10, "1.0")):
            path = self.write(f"salad-edge_{name}_arm64.deb", deb_of(CONTROL.format("arm64", ""), {}))
            os.utime(path, (1000 - age, 1000 - age))
        self.assertEqual(find_package("arm64", self.folder).path.name, "salad-edge_1.0_arm64.deb")
        with self.assertRaisesRegex(FlashError, "make deb"):
            find_package("armhf", self.folder)

    def test_order_of_versions(self):
        ordered = ["1.0~rc1", "1.0", "1.0-1", "1.0-1+b1", "1.0a", "1.0+x", "1.2", "1.10", "1:0.1"]
        for a, b in zip(ordered, ordered[1:]):
            self.assertEqual((compare_versions(a, b), compare_versions(b, a), compare_versions(a, a)), (-1, 1, 0), (a, b))


# Plays ssh and the device: keeps its arguments, and answers by what it is asked.
SSH = """#!{python}
import json, os, pathlib, sys
here = pathlib.Path({folder!r})
script = sys.argv[-1]
calls = here / "calls"
with open(calls, "a") as file:
    file.write(json.dumps(sys.argv[1:]) + "\\n")
plan = json.loads((here / "plan").read_text())
if "dpkg/status" in script:
    print(plan["probe"] + "--- status")
    print((here / "status").read_text())
    sys.exit(plan["reach"])
elif script.startswith("mktemp"):
    print("/var/tmp/salad-flash.a b")
elif script.startswith("tar "):
    (here / "sent.tar").write_bytes(sys.stdin.buffer.read())
elif "setsid" in script:
    print("device: something")
    sys.exit(plan["result"])
"""


class OverSsh(Folder):
    def flash(self, *more, device="root@cam $(touch x)", **plan):
        self.write("bin/ssh", SSH.format(python=sys.executable, folder=str(self.folder)), 0o755)
        probe = "uid=0\nsystemd=yes\nsudo=\narchitecture=arm64\nglibc=glibc 2.36\nfree=9000000\n"
        self.write("plan", json.dumps({"probe": probe, "reach": 0, "result": 0, **plan}))
        self.write("status", STATUS)
        self.write("calls", "")
        package = self.write("x.deb", deb_of(CONTROL.format("arm64", "libc6"), {"usr/bin/salad-edge": "x"}))
        bundle = self.write("my $bundle.salad", "bundle")
        command = [sys.executable, HERE / "flash.py", "ssh", "--package", package, "--bundle", bundle, *more, "--", device]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, cwd=self.folder,
                              env={**os.environ, "PATH": f"{self.folder}/bin:{os.environ['PATH']}"})
        self.assertNotIn("Traceback", done.stdout)
        self.calls = [json.loads(line) for line in (self.folder / "calls").read_text().splitlines()]
        return done.returncode, done.stdout

    def test_words_stay_whole(self):
        code, said = self.flash("--port", "2222", "--identity", "my key; rm", "--ssh-option", "User=a b")
        self.assertEqual(code, 0, said)
        for call in self.calls:
            self.assertEqual(call[:2], ["-o", "BatchMode=yes"])
            self.assertEqual(call[-2], "root@cam $(touch x)")
            self.assertTrue({"2222", "my key; rm", "User=a b"} <= set(call))
        self.assertFalse((self.folder / "x").exists())
        scripts = [shlex.split(call[-1]) for call in self.calls]
        self.assertEqual(scripts[2], ["tar", "-xf", "-", "-C", "/var/tmp/salad-flash.a b"])
        self.assertIn("install '/var/tmp/salad-flash.a b' 15", scripts[3][2])
        self.assertEqual(scripts[4], ["rm", "-rf", "/var/tmp/salad-flash.a b"])
        with tarfile.open(self.folder / "sent.tar") as tar:
            self.assertEqual(tar.getnames(), ["flash-device.sh", "package.deb", "model.salad", "sums"])

    def test_what_the_device_reports(self):
        for result, expected in ((1, "not changed"), (2, "rolled back"), (3, "neither in the new state nor in the old")):
            code, said = self.flash(result=result)
            self.assertEqual((code, expected in said, "device: something" in said), (1, True, True), said)

    def test_refusals_send_nothing(self):
        probe = "uid={}\nsystemd={}\nsudo={}\narchitecture=arm64\nglibc=glibc 2.36\nfree={}\n"
        for plan, expected in (({"reach": 255}, "cannot be reached"),
                               ({"probe": probe.format(1000, "yes", "", 10**6)}, "become root"),
                               ({"probe": probe.format(0, "", "", 10**6)}, "does not run systemd"),
                               ({"probe": probe.format(0, "yes", "", 0)}, "0 MiB free")):
            code, said = self.flash(**plan)
            self.assertEqual((code, expected in said, len(self.calls)), (1, True, 1), said)
        code, said = self.flash(device="-oProxyCommand=touch x")
        self.assertEqual((code, "is no device" in said, self.calls), (1, True, []), said)
        code, said = self.flash("--dry-run")
        self.assertEqual((code, "would install" in said, len(self.calls)), (0, True, 1), said)

    def test_sudo_where_the_user_is_not_root(self):
        code, said = self.flash(probe="uid=1000\nsystemd=yes\nsudo=yes\narchitecture=arm64\nglibc=glibc 2.36\nfree=9000000\n")
        self.assertEqual(code, 0, said)
        self.assertIn("\nsudo -n setsid", shlex.split(self.calls[3][-1])[2])


# Stand-ins for a device's dpkg and systemd: a "package" is a text, its version, and what is installed is one too.
DEVICE = {
    "dpkg": """for last; do :; done
case "$*" in
  *" -i "*) cp "$last" $T/installed; ! grep -q broken "$last" ;;
  -r*) rm -f $T/installed ;;
esac""",
    "dpkg-query": '[ -e $T/installed ] && echo "ii $(cat $T/installed)"',
    "dpkg-deb": """mkdir -p $T/tree/usr/bin
cp $T/bin/program $T/tree/usr/bin/salad-edge
cp "$2" $T/tree/md5sums
tar -C $T/tree -cf - ./usr ./md5sums""",
    "program": 'grep -q bundle "$2"',
    "systemctl": """case "$*" in
  restart*) ! grep -q ill $T/var/lib/salad-edge/model.salad || exit 1; touch $T/up ;;
  is-active*) [ -e $T/up ] && echo active ;;
  stop*) rm -f $T/up ;;
  show*MainPID*) echo 1 ;;
esac""",
    "journalctl": "echo words",
}


class OnTheDevice(Folder):
    """flash-device.sh itself, with its folders moved into a temporary one."""

    def setUp(self):
        super().setUp()
        for name, script in DEVICE.items():
            self.write(f"bin/{name}", f"#!/bin/sh\nT={shlex.quote(str(self.folder))}\n{script}\n", 0o755)
        (self.folder / "usr/bin").mkdir(parents=True)
        (self.folder / "usr/bin/salad-edge").symlink_to(self.folder / "bin/program")
        script = (HERE / "flash-device.sh").read_text(encoding="utf-8")
        for path in ("/var/lib/salad", "/etc/salad-edge", "/usr/bin/$name"):
            script = script.replace(path, f"{self.folder}{path}").replace(f"$stage{self.folder}", "$stage")
        script = script.replace(f"{self.folder}/var/lib/dpkg/info/$name.md5sums", "x").replace(
            "/var/lib/dpkg/info/$name.md5sums", f"{self.folder}/installed").replace(f".{self.folder}/usr", "./usr")
        self.script = self.write("device.sh", script)

    def device(self, *action):
        done = subprocess.run(["sh", self.script, *action], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                              check=False, env={**os.environ, "PATH": f"{self.folder}/bin:{os.environ['PATH']}"})
        return done.returncode, done.stdout

    def install(self, version, bundle, config):
        stage = self.folder / "stage"
        for name, text in (("package.deb", version), ("model.salad", bundle), ("edge.toml", config)):
            self.write(f"stage/{name}", text)
        with open(stage / "sums", "w", encoding="utf-8") as sums:
            subprocess.run(["sha256sum", "package.deb", "model.salad", "edge.toml"], cwd=stage, stdout=sums, check=True)
        return self.device("install", str(stage), "1")

    def state(self):
        paths = ("installed", "var/lib/salad-edge/model.salad", "etc/salad-edge/edge.toml")
        return tuple(p.read_text() if p.exists() else None for p in (self.folder / path for path in paths))

    def test_back_and_forth(self):
        code, said = self.install("1.0", "ill bundle", "new")
        self.assertEqual((code, self.state()), (2, (None, None, None)), said)
        code, said = self.install("1.0", "bundle", "a")
        self.assertEqual((code, self.state()), (0, ("1.0", "bundle", "a")), said)
        for _ in range(2):
            code, said = self.install("2.0", "ill bundle", "b")
            self.assertEqual((code, self.state()), (2, ("1.0", "bundle", "a")), said)
        code, said = self.install("broken", "bundle", "b")
        self.assertEqual((code, "the installation failed" in said, self.state()), (2, True, ("1.0", "bundle", "a")), said)
        code, said = self.install("2.0", "two bundle", "b")
        self.assertEqual((code, self.state()), (0, ("2.0", "two bundle", "b")), said)
        code, said = self.device("rollback", "1")
        self.assertEqual((code, self.state()), (0, ("1.0", "bundle", "a")), said)

    def test_refused_before_anything_changes(self):
        self.install("1.0", "bundle", "a")
        code, said = self.install("2.0", "garbage", "b")
        self.assertEqual((code, self.state()), (1, ("1.0", "bundle", "a")), said)
        self.write("stage/package.deb", "torn")
        code, said = self.device("install", str(self.folder / "stage"), "1")
        self.assertEqual((code, "damaged" in said, self.state()), (1, True, ("1.0", "bundle", "a")), said)

    def test_an_interrupted_flash_is_undone_first(self):
        self.install("1.0", "bundle", "a")
        self.install("2.0", "ill bundle", "b")
        self.write("installed", "half")
        self.write("var/lib/salad-flash/pending", "")
        code, said = self.install("3.0", "ill bundle", "c")
        self.assertEqual((code, "interrupted" in said, self.state()), (2, True, ("1.0", "bundle", "a")), said)

    def test_one_at_a_time(self):
        self.write("var/lib/salad-flash/lock", "")
        with contextlib.ExitStack() as stack:
            other = subprocess.Popen(["flock", self.folder / "var/lib/salad-flash/lock", "sh", "-c", "echo held; read x"],
                                     stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            stack.callback(other.communicate, b"\n")
            other.stdout.readline()
            code, said = self.install("1.0", "bundle", "a")
        self.assertEqual((code, "another flash" in said), (1, True), said)


if __name__ == "__main__":
    unittest.main()
