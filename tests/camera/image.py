"""Makes the guest's kernel and root: Debian packages, unpacked and recorded as installed, as one cpio archive.

Nothing of the guest's is run here, so that an arm64 root needs no emulation to be made. Packages come through a private apt
state with the host's own sources, so that no architecture is added to the host; where the host is no Debian, DEBIAN_MIRROR
names one.
"""

import hashlib
import os
import pathlib
import shutil
import subprocess

HERE = pathlib.Path(__file__).resolve().parent

# What a service manager, a camera driver, dpkg and our package's scripts need; apt adds what these depend on.
PACKAGES = """
base-files base-passwd bash coreutils dash debianutils diffutils dpkg findutils grep init-system-helpers kmod libc-bin
libnss-systemd mount perl-base sed systemd tar udev usr-is-merged util-linux v4l-utils
""".split()

# The camera, and the folder that is shared with the host.
MODULES = ["vivid", "virtio_pci", "9pnet_virtio", "9p"]

KERNEL_PACKAGE = {"amd64": "linux-image-amd64", "arm64": "linux-image-arm64"}

# Half of the root otherwise, and every byte of it is unpacked by an emulated processor.
LEFT_OUT = ["./usr/share/doc", "./usr/share/man", "./usr/share/locale", "./usr/share/info", "./usr/share/bash-completion",
            "./usr/share/zsh", "./usr/share/i18n", "./usr/share/lintian", "./usr/lib/udev/hwdb.d", "./lib/udev/hwdb.d",
            "./usr/share/zoneinfo", "./usr/lib/*/gconv"]

# What a machine needs that has disks, a network and people.
MASKED = """
apt-daily.timer apt-daily-upgrade.timer dev-hugepages.mount dev-mqueue.mount dpkg-db-backup.timer e2scrub_all.timer
e2scrub_reap.service fstrim.timer getty.target ldconfig.service modprobe@configfs.service modprobe@dm_mod.service
modprobe@drm.service modprobe@efi_pstore.service modprobe@fuse.service modprobe@loop.service sys-kernel-debug.mount
sys-kernel-tracing.mount systemd-boot-system-token.service systemd-hwdb-update.service
systemd-journal-catalog-update.service systemd-journal-flush.service systemd-logind.service systemd-machine-id-commit.service
systemd-networkd.service systemd-pcrphase-sysinit.service systemd-pcrphase.service systemd-pstore.service
systemd-random-seed.service systemd-remount-fs.service systemd-sysctl.service systemd-sysusers.service
systemd-timesyncd.service systemd-update-done.service systemd-update-utmp-runlevel.service systemd-update-utmp.service
systemd-user-sessions.service
""".split()


def make(arch: str, folder: pathlib.Path) -> tuple[pathlib.Path, pathlib.Path]:
    """Makes `folder`/vmlinuz and `folder`/root.cpio, and gives their paths; does nothing where they are made already."""
    kernel, archive, stamp = folder / "vmlinuz", folder / "root.cpio", folder / "stamp"
    made_of = fingerprint()
    if stamp.exists() and stamp.read_text() == made_of:
        return kernel, archive
    folder.mkdir(parents=True, exist_ok=True)
    stamp.unlink(missing_ok=True)
    debs = download(arch, folder)
    root = folder / "root"
    shutil.rmtree(root, ignore_errors=True)
    unpack(arch, debs, root)
    add_kernel(debs, root, kernel, folder / "kernel")
    configure(root)
    pack(root, archive)
    shutil.rmtree(root)
    stamp.write_text(made_of)
    return kernel, archive


def fingerprint() -> str:
    """Of everything a guest is made of but its packages' versions."""
    files = [pathlib.Path(__file__), *sorted(p for p in (HERE / "root").rglob("*") if p.is_file())]
    return hashlib.sha256(b"".join(f.name.encode() + f.read_bytes() for f in files)).hexdigest()


def download(arch: str, folder: pathlib.Path) -> list[pathlib.Path]:
    """Downloads the packages, what they depend on, and the newest kernel without what that depends on."""
    apt = folder / "apt"
    # Older versions must not be left beside new ones.
    shutil.rmtree(apt, ignore_errors=True)
    (apt / "lists" / "partial").mkdir(parents=True, exist_ok=True)
    (apt / "cache" / "archives" / "partial").mkdir(parents=True, exist_ok=True)
    (apt / "status").write_text("")
    settings = [f'APT::Architecture "{arch}"; APT::Architectures {{"{arch}";}}; APT::Install-Recommends "false";',
                f'Dir::State "{apt}"; Dir::State::status "{apt}/status"; Dir::Cache "{apt}/cache";',
                # The user that apt downloads as may not read here.
                'APT::Sandbox::User "root"; Acquire::Languages "none"; Binary::apt-get::APT::Keep-Downloaded-Packages "true";']
    if mirror := os.environ.get("DEBIAN_MIRROR"):
        (apt / "sources.list").write_text(
            f"deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] {mirror} bookworm main\n")
        settings.append(f'Dir::Etc::sourcelist "{apt}/sources.list"; Dir::Etc::sourceparts "-";')
    elif "ID=debian" not in pathlib.Path("/etc/os-release").read_text().split():
        raise SystemExit("test-camera: this host is no Debian; name a mirror of Debian: DEBIAN_MIRROR=<URL> make test-camera")
    (apt / "apt.conf").write_text("\n".join(settings) + "\n")
    env = os.environ | {"APT_CONFIG": str(apt / "apt.conf"), "LC_ALL": "C"}

    def run(*command: str, cwd: pathlib.Path = folder) -> str:
        return subprocess.run(command, cwd=cwd, env=env, check=True, stdout=subprocess.PIPE, text=True).stdout

    run("apt-get", "update", "-qq")
    run("apt-get", "install", "-qq", "-y", "--download-only", *PACKAGES)
    depends = run("apt-cache", "depends", KERNEL_PACKAGE[arch])
    name = next(line.split()[1] for line in depends.splitlines() if line.split()[0] == "Depends:")
    archives = apt / "cache" / "archives"
    run("apt-get", "download", "-qq", name, cwd=archives)
    return sorted(archives.glob("*.deb"))


def unpack(arch: str, debs: list[pathlib.Path], root: pathlib.Path) -> None:
    """Unpacks the packages but the kernel, and records them as installed."""
    for name in ["bin", "lib", "sbin"] + (["lib64"] if arch == "amd64" else []):
        (root / "usr" / name).mkdir(parents=True)
        (root / name).symlink_to(f"usr/{name}")
    records = []
    for deb in debs:
        if deb.name.startswith("linux-image-"):
            continue
        extract(deb, root, [f"--exclude={path}" for path in LEFT_OUT])
        control = subprocess.run(["dpkg-deb", "--field", deb], check=True, stdout=subprocess.PIPE, text=True).stdout
        records.append(control.replace("\n", "\nStatus: install ok installed\n", 1))
        name = control.split("\n", 1)[0].split()[1]
        # dpkg says so for each package whose list of files is not there.
        info = root / "var/lib/dpkg/info"
        info.mkdir(parents=True, exist_ok=True)
        suffix = f":{arch}" if "Multi-Arch: same" in control else ""
        (info / f"{name}{suffix}.list").write_text("/.\n")
    (root / "var/lib/dpkg/status").write_text("\n".join(records))


def add_kernel(debs: list[pathlib.Path], root: pathlib.Path, kernel: pathlib.Path, folder: pathlib.Path) -> None:
    """Takes from the kernel's package the kernel itself, and for the root the modules and what these depend on."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    extract(next(deb for deb in debs if deb.name.startswith("linux-image-")), folder, [])
    shutil.copyfile(next(folder.glob("boot/vmlinuz-*")), kernel)
    # Newer packages have their modules under /usr.
    modules = next(path for base in ["lib", "usr/lib"] for path in folder.glob(f"{base}/modules/*"))
    version = modules.name
    # Not in every user's path.
    depmod = shutil.which("depmod") or "/sbin/depmod"
    subprocess.run([depmod, "-b", modules.parents[2], version], check=True)
    depends = dict(line.split(":", 1) for line in (modules / "modules.dep").read_text().splitlines())
    target = root / "lib/modules" / version
    for wanted in MODULES:
        path = next(path for path in depends if pathlib.Path(path).name.split(".")[0] == wanted)
        for each in [path, *depends[path].split()]:
            (target / each).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(modules / each, target / each)
    for name in ["modules.builtin", "modules.builtin.modinfo", "modules.order"]:
        shutil.copyfile(modules / name, target / name)
    subprocess.run([depmod, "-b", root, version], check=True)
    shutil.rmtree(folder)


def configure(root: pathlib.Path) -> None:
    """What the packages' own scripts would do, as far as a guest needs it, and the guest's own files."""
    etc = root / "etc"
    for name in ["passwd", "group"]:
        shutil.copyfile(root / f"usr/share/base-passwd/{name}.master", etc / name)
    # With an identity systemd does not take this for a first boot, at which it would set up much.
    (etc / "machine-id").write_text("5a1ad5a1ad5a1ad5a1ad5a1ad5a1ad00\n")
    (etc / "nsswitch.conf").write_text("passwd: files systemd\ngroup: files systemd\nshadow: files\n")
    shutil.copytree(HERE / "root", root, symlinks=True, dirs_exist_ok=True)
    units = etc / "systemd/system"
    for name in MASKED:
        (units / name).unlink(missing_ok=True)
        (units / name).symlink_to("/dev/null")
    wants = units / "multi-user.target.wants"
    wants.mkdir(exist_ok=True)
    (wants / "console-shell.service").symlink_to("../console-shell.service")
    for name in ["proc", "sys", "dev", "run", "tmp", "share", "var/tmp", "var/lib/dpkg/updates"]:
        (root / name).mkdir(parents=True, exist_ok=True)


def pack(root: pathlib.Path, archive: pathlib.Path) -> None:
    """Not compressed: qemu loads it at once, and to unpack it would cost an emulated processor more."""
    names = subprocess.run(["find", ".", "-print0"], cwd=root, check=True, stdout=subprocess.PIPE).stdout
    with archive.open("wb") as out:
        subprocess.run(["cpio", "--create", "--null", "--format=newc", "--owner=0:0", "--quiet"], cwd=root, check=True,
                       input=names, stdout=out)


def extract(deb: pathlib.Path, root: pathlib.Path, options: list[str]) -> None:
    """Unpacks a package's files. Directories that are links, such as /lib, stay links."""
    files = subprocess.Popen(["dpkg-deb", "--fsys-tarfile", deb], stdout=subprocess.PIPE)
    subprocess.run(["tar", "-x", "--keep-directory-symlink", "--no-same-owner", "-C", root, *options], check=True,
                   stdin=files.stdout)
    if files.wait():
        raise SystemExit(f"test-camera: {deb.name} cannot be unpacked")
