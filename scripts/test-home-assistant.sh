#!/usr/bin/env bash
# Holds the payload by which Home Assistant finds a device, as edge/tests/mqtt.rs has heard it from a broker, against Home
# Assistant's own schemas. They take a Python that it runs on, and come from PyPI into target/home-assistant.
set -euo pipefail
cd "$(dirname "$0")/.."

payload=${CARGO_TARGET_DIR:-target}/tmp/discovery.json
skip() { echo "SKIPPED: $*"; exit 0; }

[ -e "$payload" ] || skip "there is no $payload: edge/tests/mqtt.rs had no broker"
python=
for candidate in python3.13 python3.14 python3; do
  "$candidate" -c 'import sys, venv; sys.exit(sys.version_info < (3, 13))' 2>/dev/null && { python=$candidate; break; }
done
[ -n "$python" ] || skip "Home Assistant's schemas need Python 3.13 or newer"
venv=target/home-assistant
if ! "$venv/bin/python" -c 'import homeassistant' 2>/dev/null; then
  rm -rf "$venv"
  "$python" -m venv "$venv"
  # Without what it depends on, which is a hundred packages: the schemas need these.
  "$venv/bin/pip" install -q --disable-pip-version-check --no-deps 'homeassistant>=2025.2' ||
    skip "Home Assistant cannot be installed here"
  "$venv/bin/pip" install -q --disable-pip-version-check --prefer-binary -r tests/alerts/home-assistant.txt ||
    skip "what Home Assistant's schemas need cannot be installed here"
fi
"$venv/bin/python" tests/alerts/home_assistant.py "$payload"
