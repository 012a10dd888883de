"""Texts as they grow: what is shown adds up to the whole, is never taken back, and is no part of a stop text."""

from __future__ import annotations

import pytest
import t5
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer as Backend
from tokenizers import decoders, models
from transformers import PreTrainedTokenizerFast

from fiat_jax.data.tokenizer import Tokenizer
from fiat_jax.decoding.request import Completion
from fiat_jax.serving.growing import Growing, News
from fiat_jax.serving.spelling import Spelling

PIECES = ["▁", "▁a", "a", "b", "▁ab", "c", "▁c"]


@pytest.fixture(scope="module")
def spellings(smollm2_path, tmp_path_factory) -> dict[str, Spelling]:
  """Byte-level BPE; T5's pieces; pieces with a token for each byte, as Llama 2 has them."""
  vocabulary = {token: n for n, token in enumerate(["<unk>", *(f"<0x{n:02X}>" for n in range(256)), *PIECES])}
  backend = Backend(models.BPE(vocabulary, [], byte_fallback=True, unk_token="<unk>"))
  steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
  backend.decoder = decoders.Sequence(steps)
  made = {
    "byte-level": Tokenizer.load(smollm2_path),
    "pieces": Tokenizer.load(t5.write_vocabulary(tmp_path_factory.mktemp("t5"))),
    "bytes and pieces": Tokenizer(PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="<unk>")),
  }
  return {name: Spelling(tokenizer) for name, tokenizer in made.items()}


def grow(spelling: Spelling, tokens: list[int], cuts: list[int], stops: list[str]):
  """All that is shown of tokens that come in pieces, as the engine gives them: it looks for stop texts at each cut."""
  growing, parts, told = Growing(spelling, stops, detailed=True), [], 0
  for cut in [*sorted({min(cut, len(tokens)) for cut in cuts}), len(tokens)]:
    so_far = Completion(tokens=tokens[:cut], logprobs=[-0.5] * cut)
    over = so_far.end_before(stops, spelling.tokenizer.decode) or cut == len(tokens)
    fresh, told = so_far.tokens[told:], max(told, len(so_far.tokens))
    parts.append(
      growing.add(News(tokens=fresh, logprobs=[-0.5] * len(fresh), alternatives=[], end=so_far if over else None))
    )
    if over:
      return parts, so_far
  raise AssertionError


def tokens_of(draw, spelling: Spelling, kind: str) -> list[int]:
  size = spelling.tokenizer.vocab_size
  text = spelling.tokenizer.encode(draw(st.text("ab ñ中🙂\n", max_size=12))) if kind != "bytes and pieces" else []
  return (
    draw(st.lists(st.integers(0, size - 1), max_size=16)) + text + draw(st.lists(st.integers(0, size - 1), max_size=4))
  )


@pytest.mark.parametrize("kind", ["byte-level", "pieces", "bytes and pieces"])
@settings(max_examples=150, deadline=None)
@given(
  data=st.data(),
  cuts=st.lists(st.integers(0, 24), max_size=6),
  stops=st.lists(st.text("ab 中c", min_size=1, max_size=3), max_size=2),
)
def test_what_is_shown_adds_up_to_the_whole_and_is_never_taken_back(spellings, kind, data, cuts, stops):
  spelling = spellings[kind]
  tokens = tokens_of(data.draw, spelling, kind)
  parts, end = grow(spelling, tokens, cuts, stops)
  texts = [spelling.tokenizer.decode(tokens[:cut]) for cut in sorted({min(cut, len(tokens)) for cut in cuts})]
  whole = spelling.tokenizer.decode(end.tokens) if end.text is None else end.text
  assert "".join(part.text for part in parts) == whole
  assert not any(stop in "".join(part.text for part in parts) for stop in stops)
  shown = ""
  for part, so_far in zip(parts[:-1], texts, strict=False):
    shown += part.text
    assert not (shown.endswith("\ufffd") and shown == so_far)  # behind other text it is half a character for good
    begun = [length for stop in stops for length in range(1, len(stop)) if so_far.endswith(stop[:length])]
    assert len(shown) <= len(so_far) - max(begun, default=0)
  told = [token for part in parts for token in part.tokens]
  assert told == end.tokens


def test_half_a_character_waits_for_the_other_half(spellings):
  spelling = spellings["byte-level"]
  tokens = spelling.tokenizer.encode("中🙂")
  assert len(tokens) > 2
  parts, _ = grow(spelling, tokens, list(range(len(tokens))), [])
  assert {"".join(part.text for part in parts[:n]) for n in range(len(parts) + 1)} == {"", "中", "中🙂"}
  assert b"".join(spelling.spelt(token) for token in tokens).decode() == "中🙂"
  assert spelling.text(tokens[-1]).startswith("bytes:\\x")


def test_bytes_wait_behind_a_token_without_text(spellings):
  """Left out of the text, it has bytes on both sides meet: 0x00 alone is a character, beside 0x80 it is none."""
  zero, unknown, eighty = 1, 0, 129
  parts, _ = grow(spellings["bytes and pieces"], [zero, unknown, eighty], [2], [])
  assert [part.text for part in parts] == ["", "\ufffd\ufffd"]


def test_what_may_begin_a_stop_text_waits_until_it_does_not(spellings):
  spelling = spellings["byte-level"]
  tokens = spelling.tokenizer.encode("one two\n\nthree")
  everywhere = list(range(len(tokens)))
  parts, end = grow(spelling, tokens, everywhere, ["\n\nthr"])
  assert "".join(part.text for part in parts) == "one two" and end.finish == "stop"
  assert [token for part in parts for token in part.tokens] == spelling.tokenizer.encode("one two")
  parts, end = grow(spelling, tokens, everywhere, ["\n\nfour"])
  assert "".join(part.text for part in parts) == "one two\n\nthree" and end.finish == "length"


@pytest.mark.parametrize("kind", ["byte-level", "pieces"])
def test_offsets_say_where_each_token_begins(spellings, kind):
  spelling = spellings[kind]
  tokens = spelling.tokenizer.encode(" the colour of a leaf" if kind == "byte-level" else "the colour of a leaf")
  (part,), _ = grow(spelling, tokens, [], [])
  expected = [len(spelling.tokenizer.decode(tokens[:n])) for n in range(len(tokens))]
  assert list(part.offsets) == expected
