"""The .deb that flash.py installs, read without dpkg: its fields, its files' hashes, and whether a system can take it."""

import hashlib
import io
import lzma
import pathlib
import re
import tarfile
import zlib

NAME = "salad-edge"
# Where the service looks; what flash.py itself keeps on a device lies in FLASH_DIR.
BUNDLE = "/var/lib/salad-edge/model.salad"
CONFIG = "/etc/salad-edge/edge.toml"
FLASH_DIR = "/var/lib/salad-flash"
# A package is read into memory.
MAX_BYTES = 512 << 20


class FlashError(Exception):
    """What is told to the user in one line: what, where, and the remedy."""


class Package:
    """A .deb: `fields` of its control file, `files` from path to SHA-256, `conffiles`, `size` of the file in bytes."""

    def __init__(self, path):
        self.path = pathlib.Path(path)
        try:
            data = read_capped(self.path)
            members = dict(ar_members(data))
            control = open_tar(members, "control.tar")
            self.fields = paragraph(read_member(control, "control").decode())
            self.conffiles = set(read_member(control, "conffiles", b"").decode().split())
            self.files = {"/" + i.name.lstrip("./"): sha256(tar.extractfile(i)) for tar in [open_tar(members, "data.tar")]
                          for i in tar if i.isreg()}
            self.version, self.architecture = self.fields["Version"], self.fields["Architecture"]
            self.installed_bytes = int(self.fields.get("Installed-Size", "0")) * 1024 or len(data) * 3
        except (KeyError, ValueError, EOFError, tarfile.TarError, lzma.LZMAError, zlib.error) as error:
            raise FlashError(f"{path} is not a .deb that can be read ({error}): build it again with make deb") from None
        self.size = len(data)
        if self.fields.get("Package") != NAME:
            raise FlashError(f"{path} is the package {self.fields.get('Package')}, not {NAME}: name another with --package")

    def __str__(self):
        return f"{NAME} {self.version} for {self.architecture}"

    def check(self, system):
        """Refuses a system that the package was not built for, or that lacks what it needs."""
        if self.architecture not in (system.architecture, "all"):
            raise FlashError(f"{self.path} is for {self.architecture} and the system for {system.architecture}: "
                             f"build and name the package for {system.architecture}")
        missing = system.unmet(self.fields.get("Depends", "")) + system.unmet(self.fields.get("Pre-Depends", ""))
        if any(name.startswith("libc6 ") for name in missing):
            raise FlashError(f"{self} needs {missing[0]} and the system has {system.installed.get('libc6')}: "
                             "build it for an older glibc, or use a newer system")
        if missing:
            raise FlashError(f"{self} needs {', '.join(missing)}, which the system lacks: install them there first")


class System:
    """What dpkg knows of a system: its architecture and installed packages, from the text of /var/lib/dpkg/status."""

    def __init__(self, status):
        self.installed, self.architecture = {}, None
        for text in status.split("\n\n"):
            fields = paragraph(text)
            if not fields.get("Status", "").endswith(" installed"):
                continue
            name = fields.get("Package")
            self.installed[name] = fields.get("Version", "")
            for provided, _, version in relations(fields.get("Provides", "")):
                self.installed.setdefault(provided, version)
            if name == "dpkg":
                self.architecture = fields.get("Architecture")
        if self.architecture is None:
            raise FlashError("the system's /var/lib/dpkg/status names no dpkg: only Debian and its relatives can be flashed")

    def unmet(self, depends):
        """The parts of a Depends field that do not hold."""
        parts = [part.strip() for part in depends.split(",") if part.strip()]
        return [part for part in parts if not any(self.holds(*one) for one in relations(part.replace("|", ",")))]

    def holds(self, name, relation, version):
        if name not in self.installed or not relation:
            return name in self.installed
        order = compare_versions(self.installed[name], version)
        return {"<<": order < 0, "<=": order <= 0, "=": order == 0, ">=": order >= 0, ">>": order > 0}[relation]


def find_package(architecture, folder):
    """The newest package in `folder` for an architecture."""
    found = sorted(pathlib.Path(folder).glob(f"{NAME}_*_{architecture}.deb"), key=lambda path: path.stat().st_mtime)
    if not found:
        raise FlashError(f"no package for {architecture} in {folder}: build it with make deb, or name one with --package")
    return Package(found[-1])


def sha256(file):
    """The SHA-256 of an open file, in hexadecimal."""
    digest = hashlib.sha256()
    for block in iter(lambda: file.read(1 << 20), b""):
        digest.update(block)
    return digest.hexdigest()


def file_sha256(path):
    with open(path, "rb") as file:
        return sha256(file)


def compare_versions(a, b):
    """Debian's order of versions: below 0, 0, or above 0."""
    def parts(version):
        epoch, colon, rest = version.partition(":")
        epoch, rest = (epoch, rest) if colon else ("0", version)
        upstream, _, revision = rest.rpartition("-") if "-" in rest else (rest, "", "")
        # Text and numbers in turns; a tilde is before the end, the end before letters, letters before everything else.
        return [int(epoch or 0)] + [
            [key for text, number in re.findall(r"(\D*)(\d*)", part) for key in (letters(text), int(number or 0))]
            for part in (upstream, revision)
        ]
    def letters(text):
        return [-1 if c == "~" else ord(c) if c.isalpha() else ord(c) + 256 for c in text] + [0]
    x, y = parts(a), parts(b)
    return (x > y) - (x < y)


def relations(field):
    """(name, relation, version) of each part of a field like Depends; relation and version are empty where there is none."""
    found = []
    for part in field.split(","):
        match = re.match(r"\s*([a-z0-9][a-z0-9+.-]*)(?::\w+)?\s*(?:\(\s*(<<|<=|=|>=|>>)\s*([^\s)]+)\s*\))?", part)
        if match:
            found.append((match[1], match[2] or "", match[3] or ""))
    return found


def paragraph(text):
    """The fields of a control paragraph; lines that go on are joined."""
    fields, name = {}, None
    for line in text.splitlines():
        if line[:1] in (" ", "\t"):
            if name:
                fields[name] += "\n" + line
        elif ":" in line:
            name, _, value = line.partition(":")
            fields[name] = value.strip()
    return fields


def read_capped(path):
    try:
        if path.stat().st_size > MAX_BYTES:
            raise FlashError(f"{path} is larger than {MAX_BYTES >> 20} MiB, which no {NAME} package is: name another")
        return path.read_bytes()
    except OSError as error:
        raise FlashError(f"{path} cannot be read ({error.strerror}): name the package with --package") from None


def ar_members(data):
    """(name, bytes) of the members of an ar archive."""
    if data[:8] != b"!<arch>\n":
        raise ValueError("no ar archive")
    at = 8
    while at + 60 <= len(data):
        head = data[at : at + 60]
        size = int(head[48:58])
        if size < 0 or at + 60 + size > len(data):
            raise ValueError("cut short")
        yield head[:16].decode("ascii").strip().rstrip("/"), data[at + 60 : at + 60 + size]
        at += 60 + size + size % 2


def open_tar(members, stem):
    name = next((name for name in members if name.startswith(stem)), None)
    if name is None:
        raise ValueError(f"no {stem}")
    if name.endswith(".zst"):
        raise ValueError(f"{name} is compressed with zstd, take xz")
    return tarfile.open(fileobj=io.BytesIO(members[name]), mode="r:*")


def read_member(tar, name, default=None):
    for member in tar:
        if member.name.lstrip("./") == name:
            return tar.extractfile(member).read()
    if default is None:
        raise ValueError(f"no {name}")
    return default
