#!/usr/bin/env bash
# Sets up, then runs what CI runs: format, lint, types, tests. `launch/test.sh all` runs the long tests too.
set -euo pipefail
cd "$(dirname "$0")/.."
./launch/setup.sh cpu
.venv/bin/ruff format --check --quiet .
.venv/bin/ruff check --quiet .
.venv/bin/pyright --warnings
tests() { exec .venv/bin/python -m pytest --numprocesses 2 --dist loadfile "$@"; }
if [ "${1:-}" = all ]; then tests -m "slow or not slow" --no-loadscope-reorder --durations=20; fi
# Tiny models are compiled far longer than they run: LLVM's costly optimisations are left to `all`.
export JAX_DISABLE_MOST_OPTIMIZATIONS=1
tests -m "not slow" --hypothesis-profile=ci --durations=5
