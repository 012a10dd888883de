"""Asks vLLM what `parity.jsonl` of an export says that was answered: the same ids, the same greedy answers.

    python launch/check_vllm.py EXPORT [BASE]    # where vLLM is installed; BASE: an adapter's, a Hugging Face folder

It is `check.py` for vLLM, and for decoder-only models. Exit code 1: an answer differs.
"""

from __future__ import annotations

import json
import pathlib
import sys
from typing import Any

from vllm import LLM, SamplingParams  # pyright: ignore[reportMissingImports]
from vllm.lora.request import LoRARequest  # pyright: ignore[reportMissingImports]

APART = 1e-3  # log-probabilities in f32; in bf16 answers alone are compared


def main() -> int:
  folder, *base = sys.argv[1:]
  rows = [json.loads(line) for line in (pathlib.Path(folder) / "parity.jsonl").read_text("utf-8").splitlines()]
  room = max(len(row["ids"]) + row["room"] for row in rows)
  given: dict[str, Any] = {"model": base[0] if base else folder, "dtype": rows[0]["dtype"], "max_model_len": room}
  if base:
    rank = json.loads((pathlib.Path(folder) / "adapter_config.json").read_text("utf-8"))["r"]
    given |= {"enable_lora": True, "max_lora_rank": next(n for n in (8, 16, 32, 64, 128, 256, 320, 512) if n >= rank)}
  model, different = LLM(**given), 0
  for row in rows:
    asked = SamplingParams(temperature=0, max_tokens=len(row["tokens"]), logprobs=0)
    lora = LoRARequest("tuned", 1, folder) if base else None
    (made,) = model.generate([{"prompt_token_ids": row["ids"]}], asked, lora_request=lora, use_tqdm=False)
    tokens, said = list(made.outputs[0].token_ids), made.outputs[0].logprobs
    told = [one[token].logprob for one, token in zip(said, tokens, strict=True)]
    apart = max((abs(a - b) for a, b in zip(told, row["logprobs"], strict=False)), default=0.0)
    same = tokens == row["tokens"] and (apart <= APART or row["dtype"] != "float32")
    different += not same
    print(f"{row['id']}: {'the same' if same else 'DIFFERENT'}, log-probabilities {apart:.1e} apart: {row['text']!r}")
  return int(different > 0)


if __name__ == "__main__":
  sys.exit(main())
