"""What must hold of a chat format's marks, and of the targets that carry loss, before time is spent on a model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from fiat_jax.data.rows import Row
from fiat_jax.data.tokenizer import Tokenizer
from fiat_jax.errors import UserError

if TYPE_CHECKING:
  from fiat_jax.data.batches import Shard  # `validate` has no use for Grain, which it imports


def check_format(tokenizer: Tokenizer, *, plain: bool) -> None:
  """Refuses a chat format that a model could not be tuned or asked in.

  Args:
    plain: prompts are plain text by the user's own wish (`--template plain`).

  Raises:
    UserError: no chat template though prompts are not plain (an encoder reads plain text), two begin marks in a row, or
      no mark that ends an answer.
  """
  if not (tokenizer.template_source or plain or tokenizer.for_encoder):
    raise UserError(
      "the model has no chat template, and without one an instruction-tuned model reads a format that it does not "
      "know: put its chat_template.jinja beside the tokenizer, or, if it is a base model, give --template plain",
      tokenizer.path,
    )
  ids = tokenizer.encode_prompt("a")
  if tokenizer.bos_id is not None and ids[:2] == [tokenizer.bos_id] * 2:
    where = f"the chat template ({tokenizer.template_source})" if tokenizer.template_source else "the tokenizer"
    raise UserError(
      f"{where} writes the begin mark {tokenizer.token(tokenizer.bos_id)} twice, which no model has seen: take one out "
      "of it",
      tokenizer.path,
    )
  if tokenizer.end_id is None:
    raise UserError(
      "no mark ends an answer: neither does the chat template write one after the assistant's turn nor does the "
      "tokenizer name an eos_token, and a tuned model would never stop: name it in tokenizer_config.json",
      tokenizer.path,
    )


def check_dialogues(tokenizer: Tokenizer) -> None:
  """Raises UserError where chats have no form in which the assistant's turns could be told apart."""
  if tokenizer.for_encoder:
    raise UserError("--objective chat is for decoder-only models: an encoder reads no conversation", tokenizer.path)
  if not tokenizer.template_source or not tokenizer.ends_turns:
    raise UserError(
      "--objective chat needs a chat template that ends an assistant's turn with a mark: put chat_template.jinja "
      "beside the tokenizer, and leave --template plain out",
      tokenizer.path,
    )


def check_targets(shard: Shard, tokenizer: Tokenizer, rows: Sequence[Row], file: str) -> None:
  """Refuses tokenised rows of which nothing, or not the end mark, would be learned; all of `targets` carries loss.

  Raises:
    UserError: a target has no token of its own, or does not end with the end mark.
  """
  masked = np.flatnonzero(shard.lengths("targets") <= 1)
  if masked.size:
    raise UserError(
      f"{masked.size} of {len(shard)} rows have a target without tokens, and nothing could be learned from them: the "
      f"vocabulary leaves out every character of {rows[masked[0]].targets[0]!r}: remove such rows, or take another "
      "model",
      file,
      rows[masked[0]].line,
    )
  unended = np.flatnonzero(shard.last_ids("targets") != tokenizer.end_id)
  if unended.size:
    raise UserError(
      f"{unended.size} of {len(shard)} rows have a target without the end mark "
      f"{tokenizer.token(tokenizer.end_id or 0)}, so that answering would never be learned to end: remove the folder "
      "`rows` of the cache (FIAT_CACHE)",
      file,
      rows[unended[0]].line,
    )
