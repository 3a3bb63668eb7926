#!/usr/bin/env python3
"""What is compiled into salad-edge for a target: a CycloneDX bill of materials, and the texts of all licences.

    scripts/components.py TARGET VERSION OUT   writes OUT/salad-edge.cdx.json and OUT/third-party-licences

Everything comes from cargo and the sources it has already downloaded; nothing is asked of the network.
"""

import hashlib
import json
import os
import re
import subprocess
import sys
import uuid
from datetime import datetime, timezone
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LICENCE_FILE = re.compile(r"(?i)^(licen[cs]e|copying|copyright|notice|unlicense)")
# Crates whose package has no licence file, by what they declare. The text is then the licence's own.
STANDARD_TEXTS = {"Apache-2.0": ROOT / "LICENSE-APACHE", "MIT": ROOT / "LICENSE-MIT"}


def cargo(*arguments):
    return subprocess.run(["cargo", *arguments], cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout


def components(target):
    """What is linked into salad-edge: packages as `cargo metadata` describes them, the program itself first, and for each
    name and version the set of those it depends on. `cargo tree` says which they are: it knows the features this one
    package is built with, and `cargo metadata` only those of the whole workspace."""
    tree = cargo("tree", "--locked", "-p", "salad-edge", "-e", "normal,no-proc-macro", "--target", target,
                 "--prefix", "depth", "--no-dedupe", "-f", " {p}")
    metadata = json.loads(cargo("metadata", "--format-version", "1", "--locked", "--filter-platform", target))
    packages = {(p["name"], p["version"]): p for p in metadata["packages"]}
    order, edges, path = [], {}, []
    for line in tree.splitlines():
        depth, name, version = line.split()[:3]
        key = (name, version.removeprefix("v"))
        if key not in edges:
            order.append(key)
            edges[key] = set()
        path = path[: int(depth)]
        if path:
            edges[path[-1]].add(key)
        path.append(key)
    return [packages[key] for key in order], edges


def checksums(text):
    """SHA-256 of registry packages, by name and version, from Cargo.lock."""
    found = re.findall(r'name = "(.+)"\nversion = "(.+)"\nsource = ".+"\nchecksum = "([0-9a-f]{64})"', text)
    return {(name, version): checksum for name, version, checksum in found}


def spdx(expression):
    """Old crates write MIT/Apache-2.0 where SPDX says OR."""
    return re.sub(r"\s*/\s*", " OR ", expression)


def purl(package):
    return f"pkg:cargo/{package['name']}@{package['version'].replace('+', '%2B')}"


def bill(packages, edges, sums, target, version, rustc, now):
    """The bill of materials, CycloneDX 1.5."""
    def component(package):
        entry = {
            "type": "library",
            "bom-ref": purl(package),
            "name": package["name"],
            "version": package["version"],
            "licenses": [{"expression": spdx(package["license"])}],
        }
        if package["source"]:
            entry["purl"] = purl(package)
        if package.get("description"):
            entry["description"] = " ".join(package["description"].split())
        if (checksum := sums.get((package["name"], package["version"]))):
            entry["hashes"] = [{"alg": "SHA-256", "content": checksum}]
        if package.get("repository"):
            entry["externalReferences"] = [{"type": "vcs", "url": package["repository"]}]
        return entry

    refs = {(p["name"], p["version"]): purl(p) for p in packages}
    program = component(packages[0]) | {"type": "application", "version": version}
    std = {"type": "library", "bom-ref": "rust-std", "name": "std", "version": rustc,
           "description": "Rust's standard library", "licenses": [{"expression": "MIT OR Apache-2.0"}]}
    identity = json.dumps([target, version, rustc, sorted(refs.values())])
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.5.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        # The same program has the same number, so that a package can be built twice alike.
        "serialNumber": f"urn:uuid:{uuid.UUID(hashlib.sha256(identity.encode()).hexdigest()[:32], version=4)}",
        "version": 1,
        "metadata": {
            "timestamp": now.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "component": program,
            "properties": [{"name": "salad:target", "value": target}],
        },
        "components": [component(p) for p in packages[1:]] + [std],
        "dependencies": [
            {"ref": ref, "dependsOn": sorted({refs[to] for to in edges[key]} | {"rust-std"})} for key, ref in refs.items()
        ] + [{"ref": "rust-std", "dependsOn": []}],
    }


def texts_of(package):
    """Licence texts in the package's own folder; where it has none, the text of a licence it declares."""
    folder = Path(package["manifest_path"]).parent
    files = sorted(f for f in folder.iterdir() if f.is_file() and LICENCE_FILE.match(f.name))
    if files:
        return [f.read_text(encoding="utf-8", errors="replace") for f in files]
    for licence, text in STANDARD_TEXTS.items():
        if licence in re.split(r"[^A-Za-z0-9.-]+", package["license"]):
            text = text.read_text()
            if licence == "MIT":
                holders = ", ".join(package["authors"]) or f"the authors of {package['name']}"
                text = re.sub(r"(?m)^Copyright .*$", f"Copyright (c) {holders}", text)
            return [text]
    raise SystemExit(f"components: {package['name']} {package['version']} has no text of its licence, {package['license']}")


def licences(packages):
    """All texts, each once, under the packages it belongs to."""
    groups = {}
    for package in packages:
        for text in texts_of(package):
            key = " ".join(text.split())
            groups.setdefault(key, (text, []))[1].append(package)
    parts = ["Licences of the packages that are compiled into salad-edge. Rust's standard library has a file of its own.\n"]
    for text, users in groups.values():
        names = [f"{p['name']} {p['version']} ({spdx(p['license'])})" for p in users]
        parts.append("\n".join(["=" * 80, *sorted(set(names)), "-" * 80, text.strip("\n"), ""]))
    return "\n".join(parts)


def main():
    target, version, out = sys.argv[1], sys.argv[2], Path(sys.argv[3])
    rustc = subprocess.run(["rustc", "--version"], check=True, stdout=subprocess.PIPE, text=True).stdout.split()[1]
    now = datetime.fromtimestamp(int(os.environ.get("SOURCE_DATE_EPOCH", datetime.now().timestamp())), timezone.utc)
    packages, edges = components(target)
    sums = checksums((ROOT / "Cargo.lock").read_text())
    document = bill(packages, edges, sums, target, version, rustc, now)
    out.mkdir(parents=True, exist_ok=True)
    (out / "salad-edge.cdx.json").write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n")
    foreign = [p for p in packages if p["source"]]
    (out / "third-party-licences").write_text(licences(foreign))
    print(f"components: {len(packages)} packages for {target}")


if __name__ == "__main__":
    main()
