#!/usr/bin/env python3
"""Holds a device's discovery payload against Home Assistant's own schemas: that of the device, and for each component that of
its platform, with what the device shares with all of them. `make test-home-assistant` calls it.

    tests/alerts/home_assistant.py target/tmp/discovery.json
"""

import asyncio
import importlib
import importlib.abc
import importlib.machinery
import json
import sys
import tempfile
from unittest.mock import MagicMock

# What Home Assistant imports on the way and no schema needs: cloud, radio, sound and video, most of it to be compiled.
STAND_INS = {"hass_nabucasa", "haffmpeg", "home_assistant_bluetooth", "home_assistant_intents", "mutagen", "pymicro_vad"}
STAND_INS |= {"pyspeex_noise", "turbojpeg"}


class StandIns(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in STAND_INS:
            return importlib.machinery.ModuleSpec(name, self, is_package=True)
        return None

    def create_module(self, spec):
        module = MagicMock(name=spec.name)
        module.__name__, module.__spec__, module.__path__ = spec.name, spec, []
        return module

    def exec_module(self, module):
        pass


async def main(path):
    from homeassistant.components.mqtt.schemas import DEVICE_DISCOVERY_SCHEMA, SHARED_OPTIONS
    from homeassistant.const import __version__
    from homeassistant.core import HomeAssistant

    with open(path, encoding="utf-8") as file:
        payload = json.load(file)
    with tempfile.TemporaryDirectory() as folder:
        # Templates are parsed by one that runs.
        HomeAssistant(folder)
        DEVICE_DISCOVERY_SCHEMA(payload)
        shared = {key: payload[key] for key in [*SHARED_OPTIONS, "qos", "encoding", "device", "origin"] if key in payload}
        for name, component in payload["components"].items():
            rest = dict(component)
            platform = importlib.import_module(f"homeassistant.components.mqtt.{rest.pop('platform')}")
            known = {str(key) for key in keys(platform.DISCOVERY_SCHEMA)}
            if not known:
                sys.exit(f"{name}: the keys of Home Assistant's schema are not where they were; mend this script")
            # Home Assistant passes over what it does not know; a key that is misspelt would have no effect.
            unknown = [key for key in rest if key not in known]
            if unknown:
                sys.exit(f"{name}: Home Assistant does not know {', '.join(unknown)}")
            platform.DISCOVERY_SCHEMA({**shared, **rest})
    print(f"Home Assistant {__version__} takes the device with its {len(payload['components'])} components")


def keys(schema):
    """The keys that a schema names, through schemas that are made of several."""
    if hasattr(schema, "validators"):
        return [key for part in schema.validators for key in keys(part)]
    inner = getattr(schema, "schema", None)
    return list(inner) if isinstance(inner, dict) else []


if __name__ == "__main__":
    # Before those that may be installed, so that it is the same everywhere.
    sys.meta_path.insert(0, StandIns())
    asyncio.run(main(*sys.argv[1:]))
