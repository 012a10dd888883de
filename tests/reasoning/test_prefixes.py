"""What prompts share is found by how they begin, whatever their order, and changes no answer."""

from __future__ import annotations

import json
import random

from fiat_jax import cli
from fiat_jax.reasoning.prefixes import SMALLEST, Prefixes
from fiat_jax.reasoning.request import Asking, Request
from fiat_jax.reasoning.store import Store

ASKING = Asking(beta="b", endpoint="", template="chat", length=8, temperature=0.0)


def request(head: str, x: str, sample: int = 0) -> Request:
  return Request(asking=ASKING, prompt=head + x, sample=sample, row=x, lang="en", head=len(head))


def letters(prompts) -> list[list[int]]:
  return [list(map(ord, prompt)) for prompt in prompts]


def groups(requests: list[Request]) -> dict[str, tuple[str, int]]:
  """By prompt: what is shared, and the longest of the group."""
  found = Prefixes(requests, letters)
  of = {r.prompt: found.groups[found.group_of(r)] for r in requests}
  return {prompt: ("".join(map(chr, prefix.ids)), prefix.longest) for prompt, prefix in of.items()}


def test_prompts_with_one_beginning_share_it_and_rare_ones_what_they_have_in_common():
  hindi = [request("Think. HINDI ", f"q{n}?") for n in range(SMALLEST)]
  tamil = [request("Think. TAMIL ", f"longer {n}?") for n in range(SMALLEST)]
  rare = [request(f"Think. {word} ", "x") for word in ("ONE", "OTHER")]
  found = groups([*hindi, *rare, *tamil])
  assert found[hindi[0].prompt] == ("Think. HINDI q", 16)
  assert found[tamil[0].prompt] == ("Think. TAMIL longer ", 22)
  assert found[rare[0].prompt] == ("Think. O", 14)
  shuffled = [*hindi, *rare, *tamil]
  random.Random(0).shuffle(shuffled)
  assert groups(shuffled) == found


def test_a_prefix_is_never_the_whole_of_a_prompt_and_samples_count_once():
  found = groups([request("Think.", "a", sample) for sample in range(9)])
  assert found == {"Think.a": ("", 7)}
  found = groups([request("Think. ", "a" * n) for n in range(1, SMALLEST + 1)])
  assert {shared for shared, _ in found.values()} == {"Think. "}


def test_each_languages_exemplars_are_computed_once_and_no_order_changes_an_answer(tmp_path, tiny_checkpoint, capsys):
  shots = [
    {"id": f"{lang}{n}", "lang": lang, "input": f"{lang} {n}?", "target": "2", "reasoning": f"In {lang} it is {n}."}
    for lang in ("en", "hi") for n in range(2)
  ]  # fmt: skip
  (tmp_path / "shots.jsonl").write_text("\n".join(map(json.dumps, shots)))
  rows = [{"id": f"{n}", "lang": ("en", "hi", "hi")[n % 3], "input": f"What is {n}? " * (n % 4 + 1)} for n in range(30)]
  kept = []
  for name in ("a", "b"):
    data = tmp_path / f"{name}.jsonl"
    data.write_text("\n".join(map(json.dumps, rows)))
    exemplars = ("--exemplars", str(tmp_path / "shots.jsonl"), "--shots", "2", "--shot_choice", "language")
    length = ("--reasoning_length", "6", "--slots", "4", "--completeness", "0")
    store = tmp_path / name
    words = ("annotate", "--test", str(data), "--beta", str(tiny_checkpoint), "--store", str(store))
    assert cli.main([*words, *exemplars, *length]) == 0
    read = Store(store, "reader")
    kept.append({key: read.text(key) for key in read.kept})
    random.Random(1).shuffle(rows)
  assert len(kept[0]) == 30 and kept[0] == kept[1]
  assert "prompts begin in 2 ways" in capsys.readouterr().err
