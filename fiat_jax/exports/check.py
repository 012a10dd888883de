"""Asks transformers (and peft) what `parity.jsonl` says that fiat_jax answered: the same ids, the same greedy answers.

    python check.py [BASE]

BASE: the base model's folder, GGUF file or Hub name, NAME@REVISION, where adapter_config.json names none. Exit code 1:
it differs.
"""

import json
import pathlib
import sys

import torch
import transformers

here = pathlib.Path(__file__).resolve().parent
rows = [json.loads(line) for line in (here / "parity.jsonl").read_text(encoding="utf-8").splitlines()]
adapter = json.loads((here / "adapter_config.json").read_text()) if (here / "adapter_config.json").exists() else {}
base, revision = adapter.get("base_model_name_or_path") or str(here), adapter.get("revision")
if len(sys.argv) > 1:
  base, revision = (sys.argv[1], None) if pathlib.Path(sys.argv[1]).exists() else sys.argv[1].partition("@")[::2]
place, file = base.rpartition("/")[::2] if base.endswith(".gguf") else (base, None)
kind, dtype = getattr(transformers, rows[0]["model_class"]), getattr(torch, rows[0]["dtype"])
loading = {"gguf_file": file, "revision": revision or "main", "dtype": dtype, "attn_implementation": "eager"}
model = kind.from_pretrained(place or ".", **loading)
if adapter:
  model = __import__("peft").PeftModel.from_pretrained(model, str(here))
settings = transformers.GenerationConfig.from_model_config(model.config)
settings.update(do_sample=False, output_logits=True, return_dict_in_generate=True, max_new_tokens=rows[0]["room"])
different = 0
for row in rows:
  made = model.eval().generate(input_ids=torch.tensor([row["ids"]]), generation_config=settings)
  tokens = made.sequences[0, -len(made.logits) :][: len(row["tokens"])].tolist()
  said = [one[0].float().log_softmax(-1)[token].item() for one, token in zip(made.logits, tokens, strict=False)]
  apart = max((abs(a - b) for a, b in zip(said, row["logprobs"], strict=False)), default=0.0)
  same = tokens == row["tokens"] and apart <= row["tolerance"]
  different += not same
  print(f"{row['id']}: {'the same' if same else 'DIFFERENT'}, log-probabilities {apart:.1e} apart: {row['text']!r}")
sys.exit(different > 0)
