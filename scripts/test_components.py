"""Tests of components.py: the bill of materials is whole, and nothing comes without its licence."""

import unittest
from datetime import datetime, timezone

import components

TARGETS = ["aarch64-unknown-linux-gnu", "armv7-unknown-linux-gnueabihf", "x86_64-unknown-linux-gnu"]


class ComponentsTest(unittest.TestCase):
    def test_the_bill_names_every_part_once_with_licence_and_hash_and_refers_to_nothing_else(self):
        sums = components.checksums((components.ROOT / "Cargo.lock").read_text())
        for target in TARGETS:
            packages, edges = components.components(target)
            bill = components.bill(packages, edges, sums, target, "1.2.3", "1.0.0", datetime.now(timezone.utc))
            parts = bill["components"]
            names = {part["name"] for part in parts}
            self.assertLessEqual({"tract-onnx", "nokhwa", "salad-shared", "std"}, names)
            self.assertFalse({"tch", "salad-trainer", "serde_derive", "salad-edge"} & names)
            self.assertEqual(bill["metadata"]["component"]["version"], "1.2.3")

            refs = [part["bom-ref"] for part in [*parts, bill["metadata"]["component"]]]
            self.assertEqual(len(refs), len(set(refs)))
            self.assertEqual({entry["ref"] for entry in bill["dependencies"]}, set(refs))
            self.assertLessEqual({to for entry in bill["dependencies"] for to in entry["dependsOn"]}, set(refs))
            for part in parts:
                self.assertTrue(all(choice["expression"] for choice in part["licenses"]), part)
                own = part["name"] in {"salad-shared", "std"}
                self.assertEqual("hashes" in part, not own, part)
                self.assertEqual("purl" in part, not own, part)

    def test_every_package_has_a_text(self):
        packages, _ = components.components(TARGETS[0])
        foreign = [package for package in packages if package["source"]]
        text = components.licences(foreign)
        for package in foreign:
            self.assertIn(f"{package['name']} {package['version']} (", text)
        self.assertIn("Permission is hereby granted", text)

    def test_old_ways_of_writing_a_choice_become_spdx(self):
        self.assertEqual(components.spdx("MIT/Apache-2.0"), "MIT OR Apache-2.0")
        self.assertEqual(components.spdx("Unlicense / MIT"), "Unlicense OR MIT")


if __name__ == "__main__":
    unittest.main()
