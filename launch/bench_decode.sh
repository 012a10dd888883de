#!/usr/bin/env bash
# Times decoding at equal lengths, at drawn lengths and behind a shared prefix, beside another program where PEER names
# one, in turns, TURNS times (3).
#   PEER="ENV/bin/python peer.py" [DTYPE=bfloat16] launch/bench_decode.sh CHECKPOINT.gguf
# The peer is called as `$PEER generate --model CHECKPOINT --source N --examples N --dtype T [--lengths A,B] [--prefix N]`;
# behind the prefix once more with `--recompute_prefix`.
set -euo pipefail
cd "$(dirname "$0")/.."
checkpoint=${1:-smollm2_135m_instruct}
./launch/setup.sh cpu
peer() {
  if [ -n "${PEER:-}" ]; then
    # shellcheck disable=SC2086  # PEER is a command with its words
    $PEER generate --model "$checkpoint" --dtype "${DTYPE:-float32}" "$@" 2>/dev/null
  fi
}
for turn in $(seq "${TURNS:-3}"); do
  echo "turn $turn"
  for work in "--source 128 --examples 64" "--source 128 --examples 96 --lengths 8,120" "--source 64 --examples 64 --prefix 1500"; do
    read -ra words <<<"$work"
    .venv/bin/python launch/bench_decode.py --model "$checkpoint" --dtype "${DTYPE:-float32}" "${words[@]}"
    peer "${words[@]}"
  done
  peer --source 64 --examples 32 --prefix 1500 --recompute_prefix
done
