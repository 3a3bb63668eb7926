#!/usr/bin/env bash
# Makes target/browser, a virtual environment with Playwright and axe-core, pinned by hash, for tests/web/page.py. The browser
# is Debian's chromium. Nothing outside target/ is touched.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/venv.sh

venv target/browser scripts/browser-requirements.lock 11 14 "Playwright and axe-core (a download of about 55 MB)"
