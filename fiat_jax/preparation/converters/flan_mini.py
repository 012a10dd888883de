"""FLAN-MINI (Ghosal et al., 2023), as its makers publish it: chats, each with the name of the collection it is from."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence

from fiat_jax.preparation.files import Files, rows
from fiat_jax.preparation.sets import Part

# Rows of each collection (the paper's Table 1): the weights of the mixture.
SIZES = {
  "flan2021": 388_000,
  "p3": 320_000,
  "niv2": 200_000,
  "cot": 100_000,
  "code_search": 100_000,
  "code_contests": 50_000,
  "apps": 50_000,
  "gpt4_alpaca": 52_000,
  "code_alpaca": 20_000,
  "share_gpt": 60_000,
}
HELD_OUT = 200  # one row of so many
ROWS = 1_340_153  # of the release, as its page says
# How the release may call them, as far as a name begins; its page does not say. What is called otherwise gets a view of
# its own, and is in the view `all` as everything is.
CALLED = {
  "flan": "flan2021",
  "public_pool": "p3",
  "p3": "p3",
  "niv2": "niv2",
  "cot": "cot",
  "codesearch": "code_search",
  "code_search": "code_search",
  "code_contests": "code_contests",
  "codecontests": "code_contests",
  "apps": "apps",
  "gpt4": "gpt4_alpaca",
  "alpaca": "gpt4_alpaca",
  "code_alpaca": "code_alpaca",
  "codealpaca": "code_alpaca",
  "sharegpt": "share_gpt",
  "share_gpt": "share_gpt",
}
ASSISTANTS = ("gpt", "assistant", "chatgpt", "bing", "bard")  # ShareGPT has them all
WORDS = {"human": "user", "user": "user", "system": "system", **dict.fromkeys(ASSISTANTS, "assistant")}


def convert(files: Files) -> Iterator[Part]:
  """A view for each collection, and all of them in the view `all`, which holds some out for validation.

  Chats in which nobody answers stand in its part `left_out`.
  """
  for file, _ in files.find(r"chunk_\d+\.(?:parquet|jsonl)"):
    for record in rows(file):
      key = re.sub(r"\W+", "_", record.text("source").lower()).strip("_")
      name = next((CALLED[begin] for begin in sorted(CALLED, key=len, reverse=True) if key.startswith(begin)), key)
      turns = [
        {"role": turn.one_of("from", WORDS), "content": turn.text("value")} for turn in record.inner("conversations")
      ]
      row = {"id": f"{name}-{file.stem}-{record.line}", "source": name, "messages": _answered(turns) or turns}
      if not _answered(turns):
        yield Part("all", "left_out", row)
        continue
      yield Part(name, "train", row)
      yield Part("all", "validation" if _held_out(row["id"]) else "train", row)


def _answered(turns: Sequence[Mapping[str, str]]) -> Sequence[Mapping[str, str]]:
  """The turns up to the assistant's last one with words; none where no user's turn stands before it."""
  spoken = [n for n, turn in enumerate(turns) if turn["role"] == "assistant" and turn["content"].strip()]
  kept = turns[: spoken[-1] + 1] if spoken else []
  return kept if any(turn["role"] == "user" for turn in kept) else []


def _held_out(identity: str) -> bool:
  """Whether a row is one of the 0.5 % that Flacuna did not train on; which those were is not published."""
  return int(hashlib.sha256(identity.encode()).hexdigest()[:8], 16) % HELD_OUT == 0
