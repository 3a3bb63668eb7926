#!/usr/bin/env bash
# Holds the payload by which Home Assistant finds a device, as edge/tests/mqtt.rs has heard it from a broker, against Home
# Assistant's own schemas. They take Python 3.13, and come from PyPI into target/home-assistant, pinned.
set -euo pipefail
cd "$(dirname "$0")/.."

payload=${CARGO_TARGET_DIR:-target}/tmp/discovery.json
requirements=tests/alerts/home-assistant.txt
venv=target/home-assistant
skip() { echo "SKIPPED: $*"; exit 0; }

[ -e "$payload" ] || skip "there is no $payload: edge/tests/mqtt.rs had no broker"
python=
for candidate in python3.13 python3; do
  "$candidate" -c 'import sys, venv; sys.exit(sys.version_info[:2] != (3, 13))' 2>/dev/null && { python=$candidate; break; }
done
[ -n "$python" ] || skip "Home Assistant's schemas need Python 3.13"
if ! cmp -s "$requirements" "$venv/requirements.txt"; then
  rm -rf "$venv"
  "$python" -m venv "$venv"
  # Without what they depend on, which is a hundred packages, some of them to be compiled.
  timeout 600 "$venv/bin/pip" install -q --disable-pip-version-check --no-deps --prefer-binary -r "$requirements" ||
    skip "Home Assistant's schemas cannot be installed here"
  cp "$requirements" "$venv/requirements.txt"
fi
"$venv/bin/python" tests/alerts/home_assistant.py "$payload"
