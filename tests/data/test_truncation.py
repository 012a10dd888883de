"""One column cut so that prompts fit: that column alone, no character in two, as the ids in the shard are."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from fiat_jax import prompts
from fiat_jax.data import tokenise
from fiat_jax.data.batches import Shard
from fiat_jax.data.rows import Layout, Row, read_rows
from fiat_jax.data.tokenise import ShardSpec, Tokenising
from fiat_jax.data.tokenizer import Tokenizer
from fiat_jax.data.truncation import Truncation, cut, prompt_text
from fiat_jax.errors import UserError

LAYOUT = Layout(input="{passage}\n\n{question}")
TEMPLATE = prompts.tuned_prompt("Answer.\n\n{x}", use_instruction=True, use_reasoning=True)
PASSAGES = ["short", "one two three " * 40, "नमस्ते दुनिया " * 40, "👨‍👩‍👧" * 60]


@pytest.fixture(scope="module")
def tokenizer(smollm2_path: Path) -> Tokenizer:
  return Tokenizer.load(smollm2_path)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> str:
  file = tmp_path_factory.mktemp("rows") / "rows.jsonl"
  rows = [{"passage": p, "question": f"q{n}?", "target": "t", "reasoning": "so"} for n, p in enumerate(PASSAGES)]
  file.write_text("\n".join(map(json.dumps, rows)))
  return str(file)


@pytest.fixture(scope="module")
def rows(path: str) -> Sequence[Row]:
  return read_rows(path, LAYOUT)


@pytest.mark.parametrize("side", ["left", "right"])
def test_as_little_as_possible_is_cut_off_one_side(tokenizer: Tokenizer, rows: Sequence[Row], side: str):
  truncation = Truncation.parse(f"passage:{side}", 80)
  assert truncation
  cuts = cut(rows, LAYOUT, TEMPLATE, tokenizer, truncation)
  assert cuts[0] == rows[0].x
  for row, x in zip(rows[1:], cuts[1:], strict=True):
    passage, rest = x[: -len(f"\n\n{row.fields['question']}")], x[-len(f"\n\n{row.fields['question']}") :]
    whole = row.fields["passage"]
    assert rest == f"\n\n{row.fields['question']}" and passage != whole
    assert whole.startswith(passage) if side == "right" else whole.endswith(passage)
    count = len(tokenizer.encode_prompt(prompt_text(TEMPLATE, row, x)))
    assert 80 - 20 < count <= 80
  family = cuts[3].removesuffix("\n\nq3?")
  assert family and family == "👨‍👩‍👧" * (len(family) // len("👨‍👩‍👧"))


def test_what_cannot_be_made_to_fit_stays_whole(tokenizer: Tokenizer, rows: Sequence[Row]):
  assert cut(rows, LAYOUT, TEMPLATE, tokenizer, Truncation("passage", "right", 5)) == [row.x for row in rows]


@pytest.mark.slow
def test_the_shard_holds_the_shorter_prompts_and_says_how_many(
  tokenizer: Tokenizer, rows: Sequence[Row], path: str, smollm2_path: Path
):
  whole = ShardSpec(
    path=path,
    layout=LAYOUT,
    instruction="Answer.\n\n{x}",
    use_instruction=True,
    use_reasoning=True,
    tokenizer=str(smollm2_path),
    tokenizer_fingerprint=tokenizer.fingerprint,
  )
  truncation = Truncation("passage", "right", 80)
  shorter = dataclasses.replace(whole, truncation=truncation)
  first, second = Tokenising([whole, shorter]).wait()
  assert (tokenise.truncated(first), tokenise.truncated(second)) == (0, 3)
  cuts = cut(rows, LAYOUT, TEMPLATE, tokenizer, truncation)
  for n, row in enumerate(rows):
    assert Shard(first)[n].inputs.tolist() == tokenizer.encode_prompt(prompt_text(TEMPLATE, row))
    assert Shard(second)[n].inputs.tolist() == tokenizer.encode_prompt(prompt_text(TEMPLATE, row, cuts[n]))
    assert Shard(first)[n].targets.tolist() == Shard(second)[n].targets.tolist()


def test_what_names_no_column_or_side_is_refused(rows: Sequence[Row]):
  assert Truncation.parse("", 80) is None
  with pytest.raises(UserError, match="--truncate passage:middle: give a column"):
    Truncation.parse("passage:middle", 80)
  truncation = Truncation.parse("pasage", 80)
  assert truncation
  with pytest.raises(UserError, match=r"--truncate pasage: .*did you mean passage"):
    truncation.check(rows[0].fields)


def test_exemplars_go_whole_and_from_the_last(tokenizer: Tokenizer, tmp_path: Path):
  shots = [f"Question {n}?\n\nMore of it: " + "word " * 20 + f"\nAnswer: {n}\n\n" for n in range(5)]
  file = tmp_path / "shots.jsonl"
  file.write_text(json.dumps({"header": "Answer.\n\n", "shots": "".join(shots), "question": "Last?", "target": "t"}))
  layout = Layout(input="{header}{shots}{question}\nAnswer:")
  (row,) = read_rows(str(file), layout)
  template = prompts.parse("{x}")
  for limit, kept in ((10_000, 5), (160, 3), (60, 0)):
    truncation = Truncation.parse("shots:exemplars", limit)
    assert truncation
    (x,) = cut([row], layout, template, tokenizer, truncation)
    fits = [n for n in range(6) if len(tokenizer.encode_prompt(_few(shots[:n]))) <= limit]
    assert x == _few(shots[: max(fits)]) and max(fits) == kept


def _few(shots: Sequence[str]) -> str:
  return "Answer.\n\n" + "".join(shots) + "Last?\nAnswer:"
