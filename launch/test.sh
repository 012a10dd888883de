#!/usr/bin/env bash
# Sets up, then runs what CI runs: format, lint, types, tests. `launch/test.sh all` runs the long tests too,
# one after the other: some measure memory and time.
set -euo pipefail
cd "$(dirname "$0")/.."
./launch/setup.sh cpu
.venv/bin/ruff format --check --quiet .
.venv/bin/ruff check --quiet .
.venv/bin/pyright --warnings
if [ "${1:-}" = all ]; then
  exec .venv/bin/python -m pytest -m "slow or not slow" --durations=10
fi
# Tiny models are compiled far longer than they run: XLA's costly optimisations are left to the long tests.
export JAX_DISABLE_MOST_OPTIMIZATIONS=1
exec .venv/bin/python -m pytest -m "not slow" --hypothesis-profile=ci --numprocesses 2 --dist loadfile --durations=5
