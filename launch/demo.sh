#!/usr/bin/env bash
# Sets up, then tunes SmolLM2-135M-Instruct on the shipped questions with FIAT and with plain fine-tuning: 12 minutes at
# the most on two cores. More words are passed on, such as --epochs 2. Run again, it goes on where it was stopped.
set -euo pipefail
cd "$(dirname "$0")/.."
./launch/setup.sh cpu
exec .venv/bin/fiat compare --gin_file gin/runs/demo.gin "$@"
