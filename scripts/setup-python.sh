#!/usr/bin/env bash
# Makes target/python, a virtual environment with onnx, onnxruntime and aiosmtpd, pinned by hash. Tests only: it is how they
# hold the ONNX that the trainer writes against the reference runtime, and send e-mails to a real server. Nothing outside
# target/ is touched.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/venv.sh

venv target/python scripts/python-requirements.lock 9 14 "onnx, onnxruntime and aiosmtpd (a download of about 60 MB)"
