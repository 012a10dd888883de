"""Lengths by field, histograms and tokens a word."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fiat_jax import prompts
from fiat_jax.data import lengths
from fiat_jax.data.lengths import Lengths, split_lengths
from fiat_jax.data.rows import Layout, Row, read_rows
from fiat_jax.data.tokenizer import Tokenizer


@pytest.fixture(scope="module")
def tokenizer(smollm2_path: Path) -> Tokenizer:
  return Tokenizer.load(smollm2_path)


@pytest.fixture
def rows(tmp_path: Path):
  def rows(*records: dict[str, Any]) -> Sequence[Row]:
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(json.dumps({"target": "t", "id": str(n), **record}) for n, record in enumerate(records)))
    return read_rows(str(path), Layout())

  return rows


def test_limits_that_fit_a_share_of_the_rows():
  found = Lengths(tokens=np.arange(200, 0, -1), rows=np.arange(200))
  assert [found.fits(share) for share in (0, 0.5, 0.99, 1)] == [1, 100, 198, 200]
  assert found.over(198).tolist() == [0, 1] and not found.over(200).size
  assert Lengths(tokens=np.array([7]), rows=np.array([3])).fits(0.99) == 7


def test_a_histogram_is_as_high_as_its_bins_are_full():
  draw = lambda *tokens: Lengths(tokens=np.array(tokens), rows=np.arange(len(tokens))).histogram()  # noqa: E731
  assert draw(5) == "█" and draw(1, 2, 2, 4) == "▄█ ▄"
  assert draw(*[0] * 800, 31) == "█" + " " * 14 + "▁"  # a single row is seen


def test_lengths_are_those_of_the_prompt_that_training_reads(rows, tokenizer: Tokenizer):
  both = rows({"input": "What is it?", "reasoning": "Think."}, {"input": "Who?", "target": ["a b c", "d"]})
  found = split_lengths(tokenizer, both, "Do.\n{x}")
  assert found.reasoning is not None and found.reasoning.rows.tolist() == [0]
  assert found.columns["input"].tokens.tolist() == [len(tokenizer.encode(row.x)) for row in both]
  assert found.target.tokens.tolist() == [len(tokenizer.encode(t)) + 1 for t in ("t", "a b c")]
  texts = ["Do.\nWhat is it?" + prompts.REASONING_PARAGRAPH.format(reasoning="Think."), "Do.\nWho?"]
  assert found.prompt.tokens.tolist() == [len(tokenizer.encode_prompt(text)) for text in texts]
  assert split_lengths(tokenizer, both[1:], "{x}").reasoning is None


def test_columns_are_counted_apart_and_the_longest_is_named(rows, tokenizer: Tokenizer):
  found = split_lengths(
    tokenizer,
    rows(
      {"question": "Who?", "passage": "long " * 20}, {"question": "why " * 9, "hint": "no", "reasoning": "So it is."}
    ),
    "{x}",
  )
  assert {name: field.rows.tolist() for name, field in found.columns.items()} == {
    "question": [0, 1], "passage": [0], "hint": [1]
  }  # fmt: skip
  assert [found.longest_column(row) for row in (0, 1)] == ["passage", "question"]


def test_chunks_change_nothing(rows, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch):
  many = rows(*({"input": f"question {n} " * (n % 7 + 1), "reasoning": "So." if n % 2 else ""} for n in range(25)))
  done: list[int] = []
  whole = split_lengths(tokenizer, many, "{x}")
  monkeypatch.setattr(lengths, "CHUNK", 4)
  pieces = split_lengths(tokenizer, many, "{x}", done.append)
  assert sum(done) == 25 and pieces.fertilities == whole.fertilities
  for name in ("reasoning", "target", "prompt"):
    assert getattr(pieces, name).tokens.tolist() == getattr(whole, name).tokens.tolist()


def test_tokens_a_word_by_language_in_the_worst_column(rows, tokenizer: Tokenizer):
  passage = "The tower stands in the middle of Paris and was built long ago by many workers."
  found = split_lengths(
    tokenizer,
    rows(
      {
        "lang": "bn",
        "passage": passage,
        "question": "প্যারিসের মাঝখানে কোন টাওয়ারটি দাঁড়িয়ে আছে এবং কে এটি অনেক আগে তৈরি করেছিল?",
      },
      {"lang": "en", "passage": passage, "question": "Which one?"},
      {"lang": "ja", "passage": passage, "question": "パリの中心に立っている塔はどれですか。"},
    ),
    "{x}",
  ).fertilities
  assert [(f.lang, f.column, f.characters, f.poor) for f in found] == [
    ("bn", "question", False, True),
    ("en", "passage", False, False),
    ("ja", "question", True, True),
  ]
  assert found[1].tokens == pytest.approx(len(tokenizer.encode(passage)) / 16)


@settings(max_examples=50, deadline=None)
@given(
  texts=st.lists(
    st.lists(st.one_of(st.characters(exclude_categories=["Cs"]), st.sampled_from(["<|im_end|>", "\n"]))).map("".join)
  )
)
def test_prompts_together_are_the_prompts_one_by_one(tokenizer: Tokenizer, texts: list[str]):
  texts = [*texts, "a<|im_end|>b", "<|im_start|>"]
  assert tokenizer.encode_prompts(texts) == [tokenizer.encode_prompt(text) for text in texts]
