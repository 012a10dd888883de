#!/usr/bin/env bash
# Times LoRA training and greedy decoding of a T5 1.1 small of random weights, 512 tokens in and 64 out, beside another
# program where PEER names one, in turns, TURNS times (3).
#   PEER="ENV/bin/python peer.py" [DTYPE=bfloat16] launch/bench_t5.sh
# The peer is called as `$PEER train|generate --model t5-small-random --source 512 --target 64 --examples N --dtype T`.
set -euo pipefail
cd "$(dirname "$0")/.."
./launch/setup.sh cpu
made=$(mktemp -d)
trap 'rm -rf "$made"' EXIT
.venv/bin/python launch/random_t5.py "$made"
for turn in $(seq "${TURNS:-3}"); do
  echo "turn $turn"
  for work in train generate; do
    if [ $work = train ]; then data=(--train "$made/rows.jsonl"); examples=96; else data=(--test "$made/rows.jsonl[:32]"); examples=32; fi
    .venv/bin/fiat bench "${data[@]}" --model "$made/model" --recipes fine_tuning --batch 16 --source_length 512 \
      --target_length 64 --dtype "${DTYPE:-float32}" --quiet
    if [ -n "${PEER:-}" ]; then
      # shellcheck disable=SC2086  # PEER is a command with its words
      $PEER $work --model t5-small-random --source 512 --target 64 --examples $examples --dtype "${DTYPE:-float32}" 2>/dev/null
    fi
  done
done
