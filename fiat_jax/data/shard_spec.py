"""What a shard of tokenised rows is made of, and where it lies: in a folder named by all of that."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import pathlib

from fiat_jax import prompts
from fiat_jax.data.row import Layout
from fiat_jax.data.rows import digest
from fiat_jax.data.truncation import Truncation
from fiat_jax.resources import cache_folder

FORMAT = 3  # part of every key: raise it when what a shard holds changes


@dataclasses.dataclass(frozen=True, kw_only=True)
class ShardSpec:
  """What a shard is made of: the rows of a file, one form of the prompt, and a vocabulary (a checkpoint's path).

  `plain` prompts are not put into the checkpoint's chat format. Every prompt begins with `prefix`; where it `explains`,
  its target is the row's reasoning. Where `pieces` is not 0, there are no prompts and targets but x alone, in pieces of
  at most so many tokens; where `chats` is not 0, whole chats of at most so many, of which `shorten` makes longer ones.
  """

  path: str
  layout: Layout
  instruction: str
  use_instruction: bool
  use_reasoning: bool
  tokenizer: str
  tokenizer_fingerprint: str
  labelled: bool = True
  plain: bool = False
  prefix: str = ""
  explains: bool = False
  truncation: Truncation | None = None
  pieces: int = 0
  chats: int = 0
  shorten: bool = False

  @property
  def template(self) -> prompts.Template:
    return prompts.tuned_prompt(
      self.instruction,
      use_instruction=self.use_instruction,
      use_reasoning=self.use_reasoning,
      prefix=self.prefix,
    )

  @property
  def folder(self) -> pathlib.Path:
    parts = dataclasses.asdict(self) | {"path": digest(self.path), "tokenizer": "", "format": FORMAT}
    parts = {name: part for name, part in parts.items() if part or name not in ("prefix", "explains")}
    return cache_folder("rows") / hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]


def spec_of(record: dict) -> ShardSpec:
  """The spec that `dataclasses.asdict` made a record of."""
  layout = record.pop("layout")
  labels = layout.pop("labels")
  layout = Layout(**layout, labels=labels if isinstance(labels, str) else tuple(labels))
  truncation = record.pop("truncation")
  return ShardSpec(**record, layout=layout, truncation=Truncation(**truncation) if truncation else None)
