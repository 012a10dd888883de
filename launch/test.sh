#!/usr/bin/env bash
# Sets up, then runs what CI runs: format, lint, types, tests. `launch/test.sh all` runs the long tests too.
set -euo pipefail
cd "$(dirname "$0")/.."
./launch/setup.sh cpu
.venv/bin/ruff format --check --quiet .
.venv/bin/ruff check --quiet .
.venv/bin/pyright --warnings
if [ "${1:-}" = all ]; then
  exec .venv/bin/python -m pytest -m "slow or not slow" --durations=10
fi
exec .venv/bin/python -m pytest -m "not slow" --durations=5
