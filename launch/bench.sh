#!/usr/bin/env bash
# Times training and decoding on rows of a file, beside another program where PEER names one, in turns, TURNS times (3).
#   PEER="ENV/bin/python peer.py" [DTYPE=bfloat16 REMAT=dots] launch/bench.sh ROWS.jsonl REASONING_COLUMN CHECKPOINT.gguf
# The peer is called as `$PEER train|generate --model CHECKPOINT --data ROWS --examples N --dtype T` and prints one JSON line.
set -euo pipefail
cd "$(dirname "$0")/.."
rows=${1:?the rows, a JSONL file} reasoning=${2:-reasoning} checkpoint=${3:-smollm2_135m_instruct}
./launch/setup.sh cpu
for turn in $(seq "${TURNS:-3}"); do
  echo "turn $turn"
  for work in train generate; do
    if [ $work = train ]; then data=(--train "${rows}[:128]"); examples=128; else data=(--test "${rows}[:64]"); examples=64; fi
    .venv/bin/fiat bench "${data[@]}" --model "$checkpoint" --reasoning "$reasoning" --quiet \
      --instruction 'Answer the question.\n\n{x}' --batch 16 --target_length 64 --dtype "${DTYPE:-float32}" \
      --remat "${REMAT:-none}"
    if [ -n "${PEER:-}" ]; then
      # shellcheck disable=SC2086  # PEER is a command with its words
      $PEER $work --model "$checkpoint" --data "$rows" --examples $examples --dtype "${DTYPE:-float32}" 2>/dev/null
    fi
  done
done
