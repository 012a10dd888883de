"""Text that a chat template wrote around contents, as ids: control tokens come from what the template wrote alone."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Container, Mapping, Sequence
from typing import Any

import tokenizers

from fiat_jax.data.chat import SENTINEL

_MARK = "\ufdd0mark\ufdd1"  # Unicode's noncharacters stand in no text


class MarkedText:
  """Encodes with control tokens (`marked`) and without (`plain`).

  Args:
    description: the backend's, as JSON.
    control: how each control token is written.
  """

  def __init__(self, description: Mapping[str, Any], control: Mapping[int, str]):
    self._control = control
    self.marked, self.plain = backend(description), _plain_backend(description, control)
    self.count = functools.lru_cache(maxsize=256)(self._count)

  def encode(self, rendered: str, pieces: tuple[str, ...], contents: Callable[[], Sequence[str]]) -> list[int]:
    """The ids of what a template rendered: its own `pieces`, and `contents` as they were written between them."""
    encoding = self.marked.encode(rendered, add_special_tokens=False)
    if len(self._spans(encoding, rendered)) == self.count(pieces):
      return encoding.ids
    return self._spelt_out(pieces, contents())

  def _spelt_out(self, pieces: Sequence[str], contents: Sequence[str]) -> list[int]:
    """Where contents hold what looks like a control token: they and the plain text that runs into them are spelt out.

    Between two contents stands a piece that may hold control tokens: all from its first to its last is as it was.
    """
    (_, start) = self._edges(pieces[0])
    found, run = ids(self.marked, pieces[0][:start]), pieces[0][start:]
    begins = not start  # the run stands at the very beginning, where some tokenizers put a blank before it
    for number, (content, piece) in enumerate(zip(contents, pieces[1:], strict=True), 1):
      first, last = self._edges(piece)
      run += content + piece[:first]
      if first == len(piece):  # no control token: the run goes on
        continue
      found += self._encode_run(run, begins)
      if number == len(contents):
        return found + ids(self.marked, piece[first:])
      found, run, begins = found + ids(self.marked, piece[first:last]), piece[last:], False
    return found + self._encode_run(run, begins)

  def _encode_run(self, text: str, begins: bool) -> list[int]:
    """Encodes plain text, but for the blank that some tokenizers put before what begins a whole text."""
    return ids(self.plain, text) if begins else ids(self._after_mark, _MARK + text)[1:]

  @functools.cached_property
  def _after_mark(self) -> tokenizers.Tokenizer:
    made = _plain_backend(json.loads(self.marked.to_str()), self._control)
    made.add_tokens([tokenizers.AddedToken(_MARK, special=False, normalized=False)])
    return made

  def _edges(self, piece: str) -> tuple[int, int]:
    """Where the first control token of `piece` begins (or its length) and where its last one ends (or 0)."""
    spans = self._spans(self.marked.encode(piece, add_special_tokens=False), piece)
    return (spans[0][0], spans[-1][1]) if spans else (len(piece), 0)

  def _spans(self, encoding: tokenizers.Encoding, text: str) -> list[tuple[int, int]]:
    found = [(id, span) for id, span in zip(encoding.ids, encoding.offsets, strict=True) if id in self._control]
    # An unknown character has the id of the unknown token, which may well be a control token.
    return [(start, end) for id, (start, end) in found if text[start:end].strip() == self._control[id].strip()]

  def _count(self, pieces: tuple[str, ...]) -> int:
    """How many control tokens stand in the template's own pieces."""
    text = SENTINEL.join(pieces)
    return len(self._spans(self.marked.encode(text, add_special_tokens=False), text))


def ids(backend: tokenizers.Tokenizer, text: str) -> list[int]:
  return backend.encode(text, add_special_tokens=False).ids


def backend(description: Mapping[str, Any]) -> tokenizers.Tokenizer:
  """The tokenizer of a description."""
  made = tokenizers.Tokenizer.from_str(json.dumps(description))
  made.no_truncation()  # a saved limit would cut text without a word
  made.no_padding()
  return made


def _plain_backend(description: Mapping[str, Any], control: Container[int]) -> tokenizers.Tokenizer:
  """The tokenizer that spells out what looks like a control token."""
  model = description["model"]
  if model["type"] == "Unigram":  # it would find the control tokens among its pieces all the same
    renamed = [[_MARK + piece if id in control else piece, score] for id, (piece, score) in enumerate(model["vocab"])]
    kept = [token for token in description["added_tokens"] if token["id"] not in control]
    description = {**description, "model": model | {"vocab": renamed}, "added_tokens": kept, "post_processor": None}
  made = backend(description)
  made.encode_special_tokens = True
  return made
