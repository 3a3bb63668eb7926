"""flash.py's way into an image file or card: finds the root partition, installs, writes what the first boot needs, reads back.

An image file is copied, and the copy has its name only once it is right; a card and --in-place are written where they are.
"""

import contextlib
import fnmatch
import os
import pathlib
import re
import shutil
import subprocess
import sys

from flash_disk import Disk, is_ext, private_mounts, run, tool
from flash_package import BUNDLE, CONFIG, FLASH_DIR, NAME, FlashError, Package, System, file_sha256, find_package

FIRST_DEB = f"{FLASH_DIR}/first-boot.deb"
CURRENT_DEB = f"{FLASH_DIR}/current.deb"
FIRST_UNIT = "/etc/systemd/system/salad-flash.service"
WANTS = "/etc/systemd/system/multi-user.target.wants"
# An existing configuration is kept, and one that is missing is written again.
DPKG = ["dpkg", "--force-confold", "--force-confmiss", "-i"]
FIRST_BOOT = f"""[Unit]
Description=Installs {NAME}, that was put here when this disk was flashed
ConditionPathExists={FIRST_DEB}

[Service]
Type=oneshot
Environment=DEBIAN_FRONTEND=noninteractive
ExecStart=/usr/bin/{' '.join(DPKG)} {FIRST_DEB}
ExecStart=/bin/systemctl daemon-reload
ExecStart=/bin/systemctl enable {NAME}.service
ExecStart=/bin/mv {FIRST_DEB} {CURRENT_DEB}
ExecStart=/bin/sync
ExecStart=/bin/systemctl restart --no-block {NAME}.service
# Another installation may hold dpkg's lock.
Restart=on-failure
RestartSec=20

[Install]
WantedBy=multi-user.target
"""
# Beside the files themselves, for dpkg's own records and directories.
SPARE_BYTES = 16 << 20


def flash_image(options, say):
    """The whole way, by the options of flash.py image."""
    check_options(options)
    private_mounts()
    in_place = options.in_place or pathlib.Path(options.image).is_block_device()
    # Held to the end, so that nothing else writes to it meanwhile.
    with contextlib.closing(Disk(options.image, in_place and not options.dry_run, options.i_know_this_disk)) as disk:
        part, package = look(disk, options, say)
        if options.dry_run:
            say(f"would install {package}, {options.bundle} as {BUNDLE}"
                + (f", {options.config} as {CONFIG}" if options.config else ""))
        elif in_place:
            try:
                write(disk, part, package, options, say)
            except BaseException:
                print(f"flash: {options.image} is not complete: flash it again before it is used", file=sys.stderr)
                raise
        else:
            flash_copy(disk, part, package, options, say)


def flash_copy(disk, part, package, options, say):
    """Flashes a copy, which gets its name when it is right, and goes when it is not."""
    copy = f"{options.out}.part"
    try:
        say(f"copying {options.image} to {options.out}")
        run([tool("cp"), "--reflink=auto", "--sparse=always", "--", disk.path, copy])
        with contextlib.closing(Disk(copy, True)) as target:
            write(target, part, package, options, say)
        os.rename(copy, options.out)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(copy)
        raise
    sync_folder(os.path.dirname(os.path.abspath(options.out)))
    say(f"{options.out} is ready to be written to a card")


def check_options(options):
    if not os.path.exists(options.image):
        raise FlashError(f"{options.image} is not there: name an image file or a card such as /dev/sdX")
    if pathlib.Path(options.image).is_block_device():
        if options.out:
            raise FlashError("a card is written where it is: leave --out away")
    elif options.out and not options.dry_run and os.path.lexists(options.out):
        raise FlashError(f"{options.out} is there already: remove it, or name another with --out")
    elif not (options.out or options.in_place or options.dry_run):
        raise FlashError("say --out FILE for a copy of the image, or --in-place")
    elif options.out and options.in_place:
        raise FlashError("--out and --in-place exclude each other: leave one away")
    if options.hostname and not re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?", options.hostname):
        raise FlashError(f"--hostname {options.hostname!r} is no host name: letters, digits and hyphens, at most 63")
    if options.ssh_key and not re.match(r"(ssh|ecdsa|sk)-\S+ \S+", read_text(options.ssh_key)):
        raise FlashError(f"{options.ssh_key} is no public key of OpenSSH: name the file that ends in .pub")
    if not options.bundle:
        raise FlashError("no bundle is named: say --bundle FILE")
    for path in filter(None, (options.bundle, options.config)):
        read_text(path, 1)


def look(disk, options, say):
    """Finds the root partition of an opened disk and the package for it; refuses what does not go together."""
    part = find_root(disk, options.partition)
    with disk.mounted(part, "ro,noload") as root:
        system = System(read_inside(root, "/var/lib/dpkg/status"))
        name = os_name(root)
        package = Package(options.package) if options.package else find_package(system.architecture, options.packages)
        package.check(system)
        check_root(root, part, package, options)
    disk.claim_partition(part)
    disk.check_filesystem(part, "before anything was written")
    say(f"{options.image}: partition {part.number}{' ' + part.name if part.name else ''} is the root of {name}, "
        f"{system.architecture}")
    return part, package


def write(disk, part, package, options, say):
    """Flashes the root partition and reads it back."""
    with disk.mounted(part, "rw,nodev") as root:
        written = write_root(root, package, options, say)
    disk.flush()
    verify(disk, part, written)
    disk.check_filesystem(part, "after it was written")
    say(f"{len(written)} files read back from the disk, all as written; the file system is clean")


def find_root(disk, number):
    """The partition that holds a Debian-like root file system; of two, as for updates on a Jetson, the one named APP."""
    found = []
    for part in disk.partitions:
        if is_ext(disk.file, part.start) and (number is None or part.number == number):
            with disk.mounted(part, "ro,noload") as root:
                if all(inside(root, path).is_file() for path in ("/etc/os-release", "/var/lib/dpkg/status")):
                    found.append(part)
    named = [part for part in found if part.name == "APP"]
    chosen = found if len(found) == 1 else named
    if len(chosen) == 1:
        return chosen[0]
    if found:
        raise FlashError(f"{disk.path} has root file systems in partitions {', '.join(str(p.number) for p in found)}: "
                         "choose with --partition")
    where = f"partition {number} of {disk.path}" if number is not None else f"{disk.path}"
    raise FlashError(f"{where} holds no ext4 root with /etc/os-release and /var/lib/dpkg/status: name the image of a "
                     "Raspberry Pi OS, a Jetson or another Debian")


def check_root(root, part, package, options):
    if not any(inside(root, path).exists() for path in ("/usr/lib/systemd/systemd", "/lib/systemd/systemd")):
        raise FlashError(f"the root in partition {part.number} has no systemd, which starts {NAME}: name another image")
    for line in read_inside(root, "/etc/fstab", missing="").splitlines():
        fields = line.split("#")[0].split()
        if len(fields) > 1 and fields[1] in ("/usr", "/var", "/var/lib", "/etc"):
            raise FlashError(f"the image keeps {fields[1]} on a partition of its own, which is not supported: flash it over ssh")
    status = os.statvfs(root)
    needed = package.installed_bytes + package.size + os.path.getsize(options.bundle) + SPARE_BYTES
    if status.f_bavail * status.f_frsize < needed:
        raise FlashError(f"partition {part.number} has {status.f_bavail * status.f_frsize >> 20} MiB free and {needed >> 20} MiB "
                         "are needed: make it larger first")
    if options.ssh_key:
        account(root, options.ssh_user)


def write_root(root, package, options, say):
    """Installs and writes; the SHA-256 of each file that is expected to be there afterwards, by its path."""
    written = {}
    if not options.first_boot and runs_programs(root, package.architecture):
        say(f"installing {package} in the image")
        kept = {path for path in package.conffiles if inside(root, path).exists()}
        install_now(root, package)
        skipped = kept | excluded(root, package.files)
        written.update({path: digest for path, digest in package.files.items() if path not in skipped})
        put(root, CURRENT_DEB, package.path, written)
        installed = System(read_inside(root, "/var/lib/dpkg/status")).installed.get(NAME)
        if installed != package.version:
            raise FlashError(f"dpkg's records name {NAME} {installed} after the installation of {package}: report this")
        enable(root, f"{NAME}.service")
    else:
        say(f"{package} will be installed at the first boot" + ("" if options.first_boot else
            ": the image's programs do not run here (install qemu-user-static for that)"))
        put(root, FIRST_DEB, package.path, written)
        put(root, FIRST_UNIT, FIRST_BOOT.encode(), written)
        enable(root, os.path.basename(FIRST_UNIT))
    put(root, BUNDLE, pathlib.Path(options.bundle), written)
    if options.config:
        put(root, CONFIG, pathlib.Path(options.config), written)
    if f"/usr/bin/{NAME}" in written:
        in_root(root, [f"/usr/bin/{NAME}", "inspect", BUNDLE], f"{options.bundle} does not suit {package}")
    if options.hostname:
        put(root, "/etc/hostname", f"{options.hostname}\n".encode(), written)
        hosts = re.sub(r"(?m)^127\.0\.1\.1[ \t].*\n?", "", read_inside(root, "/etc/hosts", missing="127.0.0.1\tlocalhost\n"))
        put(root, "/etc/hosts", f"{hosts.rstrip()}\n127.0.1.1\t{options.hostname}\n".encode(), written)
    if options.ssh_key:
        put_key(root, options.ssh_user, read_text(options.ssh_key), written)
    return written


def verify(disk, part, written):
    """Reads every file back from the disk."""
    with disk.mounted(part, "ro,noload") as root:
        for path, digest in written.items():
            place = inside(root, path)
            if not place.is_file():
                raise FlashError(f"{path} is not on {disk.path} after it was written: the card may be worn out, try another")
            if file_sha256(place) != digest:
                raise FlashError(f"{path} reads back differently from {disk.path}: the card may be worn out, try another")


def runs_programs(root, architecture):
    """Whether the image's programs run here: natively, or because the kernel knows an emulator that it has opened already."""
    done = subprocess.run([tool("chroot"), root, "/usr/bin/dpkg", "--print-architecture"], stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False)
    return done.returncode == 0 and done.stdout.decode().strip() == architecture


def install_now(root, package):
    """dpkg in the image, with no network, no view of this machine's processes or devices, and nothing left running."""
    staged = f"{FLASH_DIR}/install.deb"
    put(root, staged, package.path, {})
    try:
        in_root(root, DPKG + [staged], f"{package} could not be installed in the image")
    finally:
        inside(root, staged).unlink()


def in_root(root, command, failure):
    device, sysroot = os.path.join(root, "dev"), os.path.join(root, "run")
    with contextlib.ExitStack() as stack:
        for place in (device, sysroot):
            run([tool("mount"), "-t", "tmpfs", "-o", "size=16m,mode=755", "tmpfs", place])
            stack.callback(run, [tool("umount"), place])
        for name, minor in (("null", 3), ("zero", 5), ("random", 8), ("urandom", 9)):
            os.mknod(os.path.join(device, name), 0o20666, os.makedev(1, minor))
            os.chmod(os.path.join(device, name), 0o666)
        # Nothing of it outlives this process, whatever ends that.
        clean = [tool("setpriv"), "--pdeathsig", "KILL", tool("env"), "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root",
                 "LC_ALL=C.UTF-8", "DEBIAN_FRONTEND=noninteractive"]
        apart = [tool("unshare"), "--pid", "--fork", "--kill-child", "--net", "--ipc", f"--mount-proc={root}/proc"]
        try:
            run([*clean, *apart, tool("chroot"), root, *command], os.path.basename(command[0]))
        except FlashError as error:
            raise FlashError(f"{failure}: {error}") from None


def excluded(root, paths):
    """Those paths that the image's dpkg is told to leave out, such as documentation in small images."""
    rules = []
    folder = inside(root, "/etc/dpkg/dpkg.cfg.d")
    more = sorted(os.listdir(folder)) if folder.is_dir() else []
    names = ["/etc/dpkg/dpkg.cfg"] + [f"/etc/dpkg/dpkg.cfg.d/{name}" for name in more]
    for name in names:
        rules += re.findall(r"(?m)^path-(exclude|include)[ =]*(\S+)", read_inside(root, name, missing=""))
    out = set()
    for path in paths:
        # The last rule that matches decides.
        last = [kind for kind, pattern in rules if fnmatch.fnmatchcase(path, pattern)][-1:]
        if last == ["exclude"]:
            out.add(path)
    return out


def enable(root, unit):
    """What systemctl enable does, where the package has not done it."""
    if not any(os.path.lexists(inside(root, folder) / unit) for folder in (WANTS, WANTS.replace("/etc", "/usr/lib"))):
        folder = "/etc/systemd/system" if inside(root, f"/etc/systemd/system/{unit}").exists() else "/lib/systemd/system"
        inside(root, WANTS).mkdir(parents=True, exist_ok=True)
        os.symlink(f"{folder}/{unit}", inside(root, WANTS) / unit)


def put_key(root, user, key, written):
    """Lets a key log in, and has the ssh server start."""
    uid, gid, home = account(root, user)
    folder = inside(root, f"{home}/.ssh")
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    os.chown(folder, uid, gid)
    path = f"{home}/.ssh/authorized_keys"
    lines = read_inside(root, path, missing="").splitlines()
    put(root, path, "".join(f"{line}\n" for line in lines + [key.strip()] * (key.strip() not in lines)).encode(), written)
    os.chown(inside(root, path), uid, gid)
    os.chmod(inside(root, path), 0o600)
    if not any(inside(root, f"{folder}/ssh.service").exists() for folder in ("/lib/systemd/system", "/usr/lib/systemd/system")):
        raise FlashError("the image has no ssh server: leave --ssh-key away, or take an image with one")
    enable(root, "ssh.service")


def account(root, user):
    """uid, gid and home of a user of the image."""
    for line in read_inside(root, "/etc/passwd").splitlines():
        fields = line.split(":")
        if len(fields) > 5 and fields[0] == user:
            return int(fields[2]), int(fields[3]), fields[5]
    raise FlashError(f"the image has no user {user}: name another with --ssh-user")


def inside(root, path):
    """Where a path of the image lies here. Its symbolic links are followed as the image itself would, so that none, absolute
    or with dots, can lead out of it."""
    todo, done, links = [part for part in reversed(path.split("/")) if part], [], 0
    while todo:
        part = todo.pop()
        if part == "..":
            done = done[:-1]
        elif part != ".":
            place = os.path.join(root, *done, part)
            if os.path.islink(place):
                links += 1
                if links > 40:
                    raise FlashError(f"{path} of the image is a symbolic link that does not end: copy the image again")
                target = os.readlink(place)
                done = [] if target.startswith("/") else done
                todo += [part for part in reversed(target.split("/")) if part]
            else:
                done.append(part)
    return pathlib.Path(root, *done)


def put(root, path, source, written):
    """Writes a file, from bytes or another file, whole or not at all, with the owner and mode of the one it replaces."""
    place = inside(root, path)
    place.parent.mkdir(parents=True, exist_ok=True)
    new = place.with_name(place.name + ".new")
    new.unlink(missing_ok=True)
    with open(new, "xb") as file:
        if isinstance(source, bytes):
            file.write(source)
        else:
            with open(source, "rb") as original:
                shutil.copyfileobj(original, file, 1 << 20)
        old = place.stat() if place.exists() else None
        os.fchown(file.fileno(), old.st_uid if old else 0, old.st_gid if old else 0)
        os.fchmod(file.fileno(), old.st_mode & 0o7777 if old else 0o644)
        file.flush()
        os.fsync(file.fileno())
    written[path] = file_sha256(new)
    if not isinstance(source, bytes) and written[path] != file_sha256(source):
        raise FlashError(f"{source} changed while it was copied: try again")
    os.rename(new, place)
    sync_folder(place.parent)


def sync_folder(folder):
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def os_name(root):
    match = re.search(r'(?m)^PRETTY_NAME="?([^"\n]*)', read_inside(root, "/etc/os-release"))
    return match[1] if match else "a Debian-like system"


def read_inside(root, path, missing=None):
    place = inside(root, path)
    if missing is not None and not place.is_file():
        return missing
    return place.read_text(encoding="utf-8", errors="replace")


def read_text(path, limit=-1):
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read(limit)
    except OSError as error:
        raise FlashError(f"{path} cannot be read ({error.strerror}): name another") from None
