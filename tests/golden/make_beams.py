"""Records what transformers' beam search finds with small random models, for the tests to compare with.

Run it in an environment of its own, with torch 2.13, transformers 5.23 and peft 0.21:

    python tests/golden/make_beams.py

The models are `llama3` of make_families.py and `t5_1_1` of make_t5.py, in float32. It writes beams.json beside itself:
by model its `prompts`, and `searches`, each with `beams`, `length_penalty`, `early_stopping`, `stop_ids` and, for every
prompt, `answers`: all that were found, best first, as `score` and `tokens`, end mark included.

A search hangs on no hair: prompts are those for which the same search in float64 finds the same answers. Stop ids are
tokens that many answers hold, so that they are met.
"""

from __future__ import annotations

import collections
import itertools
import json
from pathlib import Path
from typing import Any

import make_families
import make_t5
import numpy as np

NEW_TOKENS, NONE = 20, 10_000  # the latter is no token's id
LENGTHS = (3, 41, 17, 70)
MODELS = ("llama3", "t5_1_1")
SEARCHES = [
  {"beams": 2, "length_penalty": 1.0, "early_stopping": False, "stops": 1},
  {"beams": 4, "length_penalty": 1.0, "early_stopping": True, "stops": 3},
  {"beams": 4, "length_penalty": 0.0, "early_stopping": False, "stops": 3},
  {"beams": 5, "length_penalty": 2.0, "early_stopping": False, "stops": 2},
  {"beams": 3, "length_penalty": -0.5, "early_stopping": True, "stops": 1},
]


def load(name: str) -> Any:
  return make_families.build(name)[0] if name == "llama3" else make_t5.load(name)


def answers(model: Any, ids: list[int], search: dict[str, Any]) -> list[dict[str, Any]]:
  import torch

  tokens = torch.tensor([ids])
  found = model.generate(
    tokens,
    attention_mask=torch.ones_like(tokens),
    num_beams=search["beams"],
    num_return_sequences=search["beams"],
    length_penalty=search["length_penalty"],
    early_stopping=search["early_stopping"],
    eos_token_id=search["stop_ids"],
    pad_token_id=0,
    do_sample=False,
    max_new_tokens=NEW_TOKENS,
    return_dict_in_generate=True,
    output_scores=True,
  )
  start = 1 if model.config.is_encoder_decoder else len(ids)
  lengths = (found.beam_indices >= 0).sum(dim=1).tolist()
  rows = zip(found.sequences.tolist(), lengths, found.sequences_scores.tolist(), strict=True)
  return [{"score": score, "tokens": row[start : start + length]} for row, length, score in rows]


def tokens_of(found: list[list[dict[str, Any]]]) -> list[list[list[int]]]:
  return [[answer["tokens"] for answer in answers] for answers in found]


def prompt(length: int, seed: int) -> list[int]:
  return np.random.default_rng(seed).integers(3, 60, length).tolist()


def stop_ids(model: Any) -> list[int]:
  """The tokens that most answers without stop ids hold, but not among their first four."""
  search = {**SEARCHES[1], "stop_ids": [NONE], "early_stopping": False}
  found = [answer["tokens"] for length in LENGTHS for answer in answers(model, prompt(length, length), search)]
  late = [set(tokens[4:]) - set(tokens[:4]) for tokens in found]
  counted = collections.Counter(itertools.chain(*map(sorted, late)))
  return [token for token, _ in counted.most_common(3)]


def record(name: str) -> dict[str, Any]:
  model, wide, prompts, found = load(name), load(name).double(), [], []
  stops = stop_ids(model)
  searches = [{**search, "stop_ids": stops[: search["stops"]]} for search in SEARCHES]
  for length in LENGTHS:
    for seed in itertools.count(length):
      ids = prompt(length, seed)
      narrow = [answers(model, ids, search) for search in searches]
      distinct = {token for answer in narrow[0] for token in answer["tokens"]}
      if len(distinct) >= 9 and tokens_of(narrow) == tokens_of([answers(wide, ids, search) for search in searches]):
        break
    prompts.append(ids)
    found.append(narrow)
  for number, search in enumerate(searches):
    del search["stops"]
    search["answers"] = [narrow[number] for narrow in found]
    lengths = [len(answer["tokens"]) for of in search["answers"] for answer in of]
    print(name, {key: value for key, value in search.items() if key != "answers"}, lengths)
  return {"prompts": prompts, "new_tokens": NEW_TOKENS, "searches": searches}


def main() -> None:
  import torch

  torch.set_num_threads(1)
  described = {name: record(name) for name in MODELS}
  (Path(__file__).parent / "beams.json").write_text(json.dumps(described).replace('{"beams":', '\n{"beams":') + "\n")


if __name__ == "__main__":
  main()
