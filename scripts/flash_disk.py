"""Disks for flash.py: partition tables (MBR, GPT), which disks must not be written to, and mounting without traces."""

import contextlib
import ctypes
import fcntl
import os
import pathlib
import shutil
import stat
import struct
import subprocess
import tempfile
import zlib
from collections import namedtuple

from flash_package import FlashError

# start and size in bytes; name is GPT's, else empty.
Partition = namedtuple("Partition", "number start size name")
EXTENDED = (0x05, 0x0F, 0x85)
MAX_LOGICAL = 64
MAX_GPT_BYTES = 1 << 20
# ioctls of block devices: size in bytes, bytes a sector, and "write back and forget what is cached".
BLKGETSIZE64, BLKSSZGET, BLKFLSBUF = 0x80081272, 0x1268, 0x1261
CLONE_NEWNS = 0x00020000
# Mounted from here means: the running system.
SYSTEM_MOUNTS = ("/", "/boot", "/boot/efi", "/boot/firmware", "/usr", "/var", "/home")


def read_partitions(file, size, sector=512):
    """The partitions of an image or disk of `size` bytes. A bare ext4 file system is one partition, number 0."""
    head = read_at(file, 0, 512)
    if head[510:512] != b"\x55\xaa":
        if is_ext(file, 0):
            return [Partition(0, 0, size, "")]
        raise FlashError(f"{file.name} has no partition table{packed(head)}")
    entries = [struct.unpack_from("<B3xB3xII", head, 446 + 16 * i) for i in range(4)]
    if any(kind == 0xEE for _, kind, _, _ in entries):
        found = read_gpt(file, size, sector)
    else:
        found = read_mbr(file, entries, sector)
    for part in found:
        if part.start + part.size > size:
            raise FlashError(f"{file.name} is cut short: partition {part.number} ends at {part.start + part.size} bytes and "
                             f"the file at {size}: copy or unpack it again")
    return found


def read_mbr(file, entries, sector):
    found = []
    for number, (_, kind, start, count) in enumerate(entries, 1):
        if kind in EXTENDED:
            found += read_logical(file, start, sector)
        elif kind and count:
            found.append(Partition(number, start * sector, count * sector, ""))
    return sorted(found)


def read_logical(file, base, sector):
    """Logical partitions: each in a table of its own, that names the next one relative to the first."""
    found, at = [], base
    for number in range(5, 5 + MAX_LOGICAL):
        table = read_at(file, at * sector, 512)
        if table[510:512] != b"\x55\xaa":
            raise FlashError(f"{file.name}: the extended partition's table at sector {at} is damaged: copy the image again")
        kind, start, count = struct.unpack_from("<4xB3xII", table, 446)
        if kind and count:
            found.append(Partition(number, (at + start) * sector, count * sector, ""))
        kind, step, _ = struct.unpack_from("<4xB3xII", table, 462)
        if kind not in EXTENDED or step == 0:
            return found
        at = base + step
    raise FlashError(f"{file.name}: the extended partition's tables do not end: copy the image again")


def read_gpt(file, size, sector):
    """From the table at the front or, where that is damaged, from the one at the end."""
    for at in (sector, size - sector):
        head = read_at(file, at, 92)
        if head[:8] != b"EFI PART":
            continue
        (length,) = struct.unpack_from("<I", head, 12)
        crc, first, count, entry, entries_crc = (*struct.unpack_from("<I", head, 16), *struct.unpack_from("<QIII", head, 72))
        if not 92 <= length <= sector or entry < 128 or count * entry > MAX_GPT_BYTES:
            continue
        head = bytearray(read_at(file, at, length))
        head[16:20] = bytes(4)
        table = read_at(file, first * sector, count * entry)
        if zlib.crc32(head) == crc and zlib.crc32(table) == entries_crc:
            return gpt_entries(table, entry, sector)
    raise FlashError(f"{file.name}: both GPT partition tables are damaged: copy the image again")


def gpt_entries(table, entry, sector):
    found = []
    for number, at in enumerate(range(0, len(table) - entry + 1, entry), 1):
        first, last = struct.unpack_from("<QQ", table, at + 32)
        if any(table[at : at + 16]) and last >= first:
            name = table[at + 56 : at + 128].decode("utf-16-le", "replace").split("\0")[0]
            found.append(Partition(number, first * sector, (last - first + 1) * sector, name))
    return found


def is_ext(file, start):
    return read_at(file, start + 1080, 2, short=True) == b"\x53\xef"


def read_at(file, at, length, short=False):
    """Bytes of a file; fewer than asked for are an error, unless `short`."""
    data = os.pread(file.fileno(), length, at) if at >= 0 else b""
    if len(data) < length and not short:
        raise FlashError(f"{file.name} is cut short at {at + len(data)} bytes: copy or unpack it again")
    return data


def packed(head):
    """What to do about an image that is still packed."""
    tools = {b"\xfd7zXZ": "unxz -k", b"\x1f\x8b": "gunzip -k", b"PK\x03\x04": "unzip", b"\x28\xb5\x2f\xfd": "unzstd"}
    tool = next((tool for magic, tool in tools.items() if head.startswith(magic)), None)
    return f": unpack it first with {tool}" if tool else " and no ext4: name a disk image or a card"


def disks_below(device, sysfs="/sys"):
    """Names of the disks that hold a block device "major:minor": of a partition its disk, of a mapped one all below it."""
    place = pathlib.Path(os.path.realpath(f"{sysfs}/dev/block/{device}"))
    if not place.is_dir():
        return set()
    slaves = list((place / "slaves").glob("*"))
    if slaves:
        return set().union(*(disks_below((slave / "dev").read_text(encoding="utf-8").strip(), sysfs) for slave in slaves))
    return {place.parent.name if (place / "partition").exists() else place.name}


def check_disk(path, number, known, sysfs="/sys", mountinfo="/proc/self/mountinfo"):
    """Refuses a partition, a disk with mounted partitions, and the running system's, unless `known`. `number` is the disk's
    "major:minor"."""
    place = pathlib.Path(os.path.realpath(f"{sysfs}/dev/block/{number}"))
    if (place / "partition").exists():
        raise FlashError(f"{path} is a partition: name the whole card, /dev/{place.parent.name}")
    if (place / "ro").exists() and (place / "ro").read_text(encoding="utf-8").strip() == "1":
        raise FlashError(f"{path} is write-protected: move the card's switch")
    for line in pathlib.Path(mountinfo).read_text(encoding="utf-8").splitlines():
        fields = line.split(" ")
        if place.name not in disks_below(fields[2], sysfs) or known:
            continue
        if fields[4] in SYSTEM_MOUNTS:
            raise FlashError(f"{path} holds the running system ({fields[4]}): name another disk, or, for another root partition "
                             "of this one, say --i-know-this-disk")
        raise FlashError(f"{path} is mounted at {unescape(fields[4])}: umount it first")


def check_image(path, sysfs="/sys"):
    """Refuses an image file that is in use as a loop device, and thereby one that is mounted."""
    for backing in pathlib.Path(sysfs).glob("block/loop*/loop/backing_file"):
        with contextlib.suppress(OSError):
            if os.path.samefile(backing.read_text(encoding="utf-8").rstrip("\n"), path):
                raise FlashError(f"{path} is in use as /dev/{backing.parts[-3]}: umount it, and losetup -d it, first")


def unescape(text):
    """A path as mountinfo writes it, with octal escapes."""
    return text.replace("\\040", " ").replace("\\011", "\t").replace("\\012", "\n").replace("\\134", "\\")


class Disk:
    """An opened image file or card, claimed so that no other program mounts or flashes it meanwhile."""

    def __init__(self, path, write, known=False):
        self.path = os.path.realpath(path)
        self.write = write
        status = os.stat(self.path)
        self.card = stat.S_ISBLK(status.st_mode)
        self.claim = None
        if self.card:
            number = f"{os.major(status.st_rdev)}:{os.minor(status.st_rdev)}"
            check_disk(path, number, known)
            self.place = pathlib.Path(os.path.realpath(f"/sys/dev/block/{number}"))
        elif stat.S_ISREG(status.st_mode):
            check_image(path)
        else:
            raise FlashError(f"{path} is neither an image file nor a card: name one")
        self.file = open(self.path, "r+b" if write else "rb", buffering=0)
        try:
            self.lock(known)
            self.size = ioctl_number(self.file, BLKGETSIZE64, "Q") if self.card else status.st_size
            self.sector = ioctl_number(self.file, BLKSSZGET, "I") if self.card else 512
            self.partitions = read_partitions(self.file, self.size, self.sector)
        except BaseException:
            self.close()
            raise

    def lock(self, known):
        """The kernel gives an exclusive opening of a disk only where nothing of it is mounted, swapped to or mapped."""
        try:
            if self.card and not known:
                self.claim = os.open(self.path, os.O_RDONLY | os.O_EXCL)
            elif not self.card:
                fcntl.flock(self.file, (fcntl.LOCK_EX if self.write else fcntl.LOCK_SH) | fcntl.LOCK_NB)
        except OSError:
            raise FlashError(f"{self.path} is in use: umount it, or end the program that uses it, first") from None

    def claim_partition(self, part):
        """On a disk that is in use elsewhere, the partition that is written to is claimed alone. No option lifts this: two
        writers destroy a file system."""
        if not self.card or self.claim is not None:
            return
        nodes = [node.parent.name for node in self.place.glob("*/partition") if node.read_text().strip() == str(part.number)]
        try:
            self.claim = os.open(f"/dev/{nodes[0]}" if nodes else self.path, os.O_RDONLY | os.O_EXCL)
        except OSError:
            raise FlashError(f"partition {part.number} of {self.path} is mounted or in use: umount it first") from None

    def flush(self):
        """Writes back everything and forgets what is cached, so that what is read next comes from the disk itself."""
        os.fsync(self.file.fileno())
        if self.card:
            fcntl.ioctl(self.file, BLKFLSBUF, 0)
        else:
            os.posix_fadvise(self.file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)

    def check_filesystem(self, part, when):
        """e2fsck, which changes nothing."""
        target = f"/proc/self/fd/{self.file.fileno()}?offset={part.start}"
        done = subprocess.run([tool("e2fsck"), "-f", "-n", target], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, pass_fds=[self.file.fileno()], check=False)
        if done.returncode:
            raise FlashError(f"{self.path}: the file system of partition {part.number} has faults {when}: "
                             "repair it with e2fsck -f, or copy the image again")

    @contextlib.contextmanager
    def mounted(self, part, options):
        """The folder where a partition is mounted. The loop device goes away by itself when it is unmounted, and that happens
        in any case, since the mount is in this process's own name space."""
        folder = tempfile.mkdtemp(prefix="salad-flash-")
        try:
            attach = [tool("losetup"), "--find", "--show", "--offset", str(part.start), "--sizelimit", str(part.size)]
            device = run(attach + ["--read-only"] * ("ro" in options.split(",")) + [self.path]).strip()
            try:
                run([tool("mount"), "-t", "ext4", "-o", options, device, folder])
            finally:
                # Of a mounted one this says: detach when it is unmounted.
                run([tool("losetup"), "--detach", device])
            try:
                yield folder
            finally:
                run([tool("umount"), "--recursive", folder])
        finally:
            os.rmdir(folder)

    def close(self):
        if self.claim is not None:
            os.close(self.claim)
        self.file.close()


def private_mounts():
    """From here on this process mounts for itself alone: whatever ends it unmounts everything."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNS):
        error = os.strerror(ctypes.get_errno())
        raise FlashError(f"no right to mount ({error}): run this as root, with sudo")
    run([tool("mount"), "--make-rprivate", "/"])


def ioctl_number(file, request, form):
    return struct.unpack(form, fcntl.ioctl(file, request, bytes(struct.calcsize(form))))[0]


def tool(name):
    """The path of a program of the system, also where PATH has no sbin."""
    found = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin:/usr/bin:/bin")
    if found is None:
        package = {"e2fsck": "e2fsprogs", "ssh": "openssh-client"}.get(name, "util-linux or mount")
        raise FlashError(f"{name} is missing: install it (Debian: {package})")
    return found


def run(command, name=None):
    """Runs a program; its standard output. Its failure is told with the end of what it said."""
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False)
    if done.returncode:
        said = (done.stderr or done.stdout).decode("utf-8", "replace").strip().splitlines()[-4:]
        why = "; ".join(line.strip() for line in said) or done.returncode
        raise FlashError(f"{name or os.path.basename(command[0])} failed ({why})")
    return done.stdout.decode("utf-8", "replace")
