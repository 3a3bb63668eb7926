#!/usr/bin/env python3
"""Holds a device's discovery payload against Home Assistant's own schemas: that of the device, and for each component that of
its platform, with what the device shares with all of them. `make test-home-assistant` calls it.

    tests/alerts/home_assistant.py target/tmp/discovery.json
"""

import importlib
import json
import sys

from homeassistant.components.mqtt.schemas import DEVICE_DISCOVERY_SCHEMA, SHARED_OPTIONS
from homeassistant.const import __version__


def main(path):
    with open(path, encoding="utf-8") as file:
        payload = json.load(file)
    DEVICE_DISCOVERY_SCHEMA(payload)
    shared = {key: payload[key] for key in SHARED_OPTIONS + ["qos", "encoding", "device", "origin"] if key in payload}
    for name, component in payload["components"].items():
        rest = dict(component)
        platform = importlib.import_module(f"homeassistant.components.mqtt.{rest.pop('platform')}")
        known = {str(key) for key in keys(platform.DISCOVERY_SCHEMA)}
        # Home Assistant passes over what it does not know; a key that is misspelt would have no effect.
        unknown = [key for key in rest if known and key not in known]
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
    main(*sys.argv[1:])
