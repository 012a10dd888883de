"""What the user sees of `fiat annotate`: a few rows, a pilot, gold reasoning, export, votes, limits, stopping."""

from __future__ import annotations

import collections
import json
import pathlib
import re
import signal
import subprocess
import sys
import time

import pytest
from annotating import LANGS, failed, spent, words
from commands import records
from endpoint import Endpoint, served

from fiat_jax import cli
from fiat_jax.reasoning import pace
from fiat_jax.reasoning.store import Store


def view(rows: pathlib.Path) -> dict[str, dict]:
  (file,) = (rows.parent / "S" / "reasoning").glob("*.jsonl")
  return {record["reasoning"]: record for record in records(file)[1:]}


def number_in(prompt: str) -> int:
  return int(re.findall(r"What is (\d+)", prompt)[-1])


def right_of_even(prompt: str, attempt: int) -> str:
  """The target of the row, where its number is even."""
  number = number_in(prompt)
  return f"Row {number}. The answer is {f'SECRET{number}' if number % 2 == 0 else 'nothing'}."


def test_a_few_rows_are_shown_with_prompt_answer_and_what_is_read_out_of_it(rows, capsys):
  endpoint = Endpoint(lambda e, prompt, attempt: "unparsed" if number_in(prompt) == 1 else "")
  with served(endpoint) as url:
    assert cli.main(words(rows, url, "--limit", "5")) == 0
  shown = capsys.readouterr().out
  assert len(endpoint.bodies) == 5 and shown.count("--- prompt") == 5 == shown.count("--- reasoning")
  assert "What is 0 + 1?" in shown and "I think. The answer is" in shown and shown.count("--- answer: ") == 4
  assert "--- failed: unparsed" in shown


def test_a_pilot_says_what_the_others_will_cost(rows, capsys):
  endpoint = Endpoint(tokens=0.25)
  with served(endpoint) as url:
    assert cli.main(words(rows, url, "--pilot", "6")) == 0
  shown = capsys.readouterr().out
  assert len(endpoint.bodies) == 6 and "30 requests are to be asked" in shown and "by 6 answers" in shown
  likely = next(line for line in shown.splitlines() if line.startswith("likely:"))
  assert "750 out" in likely  # 30 times a quarter of 100


def test_only_rightly_reasoned_training_rows_are_used_and_all_others(rows, capsys):
  test = rows.parent / "test.jsonl"
  test.write_text(json.dumps({"id": "t", "input": "What is 101 + 1?", "target": "SECRET101"}))
  endpoint = Endpoint(answer=right_of_even)
  with served(endpoint) as url:
    assert cli.main([*words(rows, url), "--test", str(test), "--filter_gold"]) == 0
    assert len(endpoint.answered) == 37
    assert cli.main(["validate", *words(rows, url)[1:], "--test", str(test), "--filter_gold", "--model", "none"]) == 0
    said = capsys.readouterr().out
    assert re.search(r"train: .*\n\s+18 rows", said) and re.search(r"test: .*\n\s+1 row", said), said
    bare = [word for word in words(rows, url) if word not in ("--train", str(rows))]
    assert cli.main([*bare, "--test", str(test), "--filter_gold"]) == 2
  assert "--filter_gold is about training rows" in capsys.readouterr().err


def test_what_one_store_exports_another_takes_over_and_pays_nothing_for(rows, capsys):
  endpoint, file = Endpoint(), rows.parent / "answers.jsonl"
  with served(endpoint) as url:
    assert cli.main(words(rows, url, "--export_to", str(file))) == 0
    assert "holds 36 answers" in capsys.readouterr().err
    other = words(rows, url, "--store", str(rows.parent / "T"), "--import_from", str(file))
    assert cli.main(other) == 0 and "36 answers taken over" in capsys.readouterr().err
    assert cli.main(other) == 0 and "0 answers taken over" in capsys.readouterr().err
  assert set(endpoint.answered.values()) == {1}
  for split in ("S", "T"):
    assert len(records(rows.parent / split / "rows" / "train.jsonl")) == 36
  assert Store(rows.parent / "T", "reader").kept.keys() == Store(rows.parent / "S", "reader").kept.keys()
  whole, before = file.read_text(), (rows.parent / "T" / "answers-00000.jsonl").read_bytes()
  wrong = json.dumps(json.loads(whole.splitlines()[-1]) | {"key": "another", "tokens": 120})
  for line in ('{"kind": "answer"}', wrong):
    file.write_text(f"{whole}{line}\n")
    assert cli.main(other) == 2 and "answers.jsonl:38: is no answer of a store" in capsys.readouterr().err
  assert (rows.parent / "T" / "answers-00000.jsonl").read_bytes() == before


def test_what_was_bought_before_a_price_was_known_counts_towards_the_cap(rows, capsys):
  endpoint, store = Endpoint(), str(rows.parent / "S")
  with served(endpoint) as url:
    free = ["annotate", "--train", str(rows), "--beta", "openai:big", "--store", store]
    free += ["--beta_url", url, "--reasoning_length", "100"]
    assert cli.main([*free, "--limit", "4"]) == 0
    before = endpoint.cost(1000, 1000)
    assert before > 0.1
    assert cli.main([*free, "--price", "1000,1000", "--max_cost", str(before + 1.5)]) == 2
  assert "--max_cost" in capsys.readouterr().err
  assert len(endpoint.answered) > 4 and before < endpoint.cost(1000, 1000) <= before + 1.5


def test_two_commands_that_end_together_leave_a_view_of_all(rows):
  endpoint = Endpoint()
  with served(endpoint) as url:
    assert cli.main(words(rows, url)) == 0
    command = [sys.executable, "-m", "fiat_jax", *words(rows, url)]
    children = [subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) for _ in range(4)]
    ends = [(child.communicate()[1], child.returncode) for child in children]
  assert [code for _, code in ends] == [0] * 4, ends
  (view,) = (rows.parent / "S" / "reasoning").glob("*.jsonl")
  assert len(view.read_text().splitlines()) == 1 + 36


def test_of_several_answers_the_majoritys_counts_and_its_first_reasoning_is_kept(rows):
  said = collections.defaultdict(list)

  def answer(prompt: str, attempt: int) -> str:
    number = number_in(prompt)
    text = f"Thought {attempt}. The answer is {[number, number + 1, number + 1, 'unknown', number + 1][attempt - 1]}."
    said[number].append(text)
    return text

  endpoint = Endpoint(answer=answer)
  more = ("--samples", "5", "--temperature", "0.7", "--concurrency", "1", "--train", f"{rows}[:8]")
  with served(endpoint) as url:
    assert cli.main(words(rows, url, *more)) == 0
  assert set(endpoint.answered.values()) == {5} and all(body["temperature"] == 0.7 for body in endpoint.bodies)
  kept = view(rows)
  assert len(kept) == 8 and {tuple(record["votes"]) for record in kept.values()} == {(3, 5)}
  for number, texts in said.items():
    assert any(text in kept and kept[text]["answer"] == str(number + 1) for text in texts[1:2])


def test_lenient_readings_are_shown_and_kept_apart_and_never_count(rows, capsys):
  ends = ("So it is 7", "and nothing that could be read as an answer came to it, however long it thought")

  def answer(prompt: str, attempt: int) -> str:
    number = number_in(prompt)
    return f"Thought.\n{ends[number]}" if number < 2 else f"The answer is {number}."

  with served(Endpoint(answer=answer)) as url:
    few = words(rows, url, "--train", f"{rows}[:6]")
    assert cli.main(few) == 2
    told = capsys.readouterr().err
    assert cli.main([*few, "--limit", "6"]) == 0
  assert "4 rows done, 2 failed, 0 left" in told and "4 of 6 rows have reasoning" in told
  assert "answers: 4 strict (by --answer), 1 lenient alone" in told and "'7' (1)" in told
  lenient = {record["id"]: record.get("lenient") for record in failed(rows)}
  assert lenient == {"r0": "7", "r1": None}
  assert sorted(record["answer"] for record in view(rows).values()) == ["2", "3", "4", "5"]
  assert "(leniently: 7)" in capsys.readouterr().out


def test_limits_a_minute_hold_by_the_endpoints_clock(rows, monkeypatch):
  monkeypatch.setattr(pace, "MINUTE", 0.8)
  monkeypatch.setattr(pace, "SLACK", 0.5)
  for flag, most in (("--requests_per_minute", 12), ("--tokens_per_minute", 2000)):
    endpoint = Endpoint()
    with served(endpoint) as url:
      assert cli.main(words(rows, url, flag, str(most), "--store", str(rows.parent / flag[2:]))) == 0
    for start, _ in endpoint.arrivals:
      within = [tokens for at, tokens in endpoint.arrivals if start <= at < start + 0.8]
      assert (len(within) if flag == "--requests_per_minute" else sum(within)) <= most
    assert endpoint.arrivals[-1][0] - endpoint.arrivals[0][0] > 1.0


def test_a_signal_says_what_is_done_what_it_cost_and_how_to_go_on(rows):
  endpoint = Endpoint()
  endpoint.delay = 0.1
  command = [sys.executable, "-m", "fiat_jax", *words(rows, "{url}", "--concurrency", "3")]
  with served(endpoint) as url:
    child = subprocess.Popen([word.format(url=url) for word in command], stderr=subprocess.PIPE, text=True)
    while len(endpoint.usage) < 12:
      assert child.poll() is None
      time.sleep(0.01)
    child.send_signal(signal.SIGTERM)
    said = child.communicate()[1]
  assert child.returncode == 143
  done = len(view(rows))
  assert f"{done} rows done, 0 failed, {36 - done} left; spent {endpoint.cost(1000, 1000):.4f}" in said
  assert "to go on: fiat annotate --train" in said and "--concurrency 3" in said
  assert set(endpoint.answered.values()) == {1} and spent(rows).spent == pytest.approx(endpoint.cost(1000, 1000))
  langs = [row["lang"] for row in records(rows.parent / "S" / "rows" / "train.jsonl") if row["reasoning"]]
  assert max(map(langs.count, LANGS)) - min(map(langs.count, LANGS)) <= 1 and not failed(rows)


def test_rows_are_written_with_all_their_columns_and_serve_as_a_file_of_rows(tmp_path, capsys):
  data = tmp_path / "rows.csv"
  lines = [f"{n},What is {n} + 1?,SECRET{n},by hand,{n}" for n in range(20)]
  data.write_text("\n".join(["number,question,answer,source,n", *lines]))
  columns = ["--input", "{question}", "--target", "answer"]
  with served(Endpoint()) as url:
    endpoint = ["--beta", "openai:big", "--beta_url", url, "--store", str(tmp_path / "S")]
    assert cli.main(["annotate", "--data", str(data), *columns, *endpoint]) == 0
  written = {split: tmp_path / "S" / "rows" / f"{split}.jsonl" for split in ("train", "validation", "test")}
  found = [row for file in written.values() for row in records(file)]
  assert sorted(int(row["number"]) for row in found) == list(range(20)) and len(records(written["test"])) == 4
  assert all(row["question"] == f"What is {row['n']} + 1?" and row["source"] == "by hand" for row in found)
  assert all(row["answer"] == f"SECRET{row['n']}" and row["reasoning"] for row in found)
  files = [word for split, file in written.items() for word in (f"--{split}", str(file))]
  assert cli.main(["validate", *files, *columns, "--model", "none"]) == 0
  assert "100.0 %" in capsys.readouterr().out


def test_a_model_that_continues_text_ends_where_the_next_exemplar_would_begin(rows):
  row = {"id": "e", "input": "What is it?", "target": "2", "reasoning": "Look. The answer is 2."}
  (rows.parent / "shots.jsonl").write_text(json.dumps(row))
  endpoint = Endpoint(answer=lambda prompt, attempt: "It is so. The answer is 7.\n\nWhat is next?\n\nReasoning: I")
  more = ("--exemplars", str(rows.parent / "shots.jsonl"), "--beta_template", "plain")
  with served(endpoint) as url:
    assert cli.main(words(rows, url, *more)) == 0
    assert cli.main(words(rows, url, *more, "--stops", "so.,\\nI")) == 2
  assert endpoint.bodies[0]["stop"] == ["\n\n"] and "messages" not in endpoint.bodies[0]
  assert endpoint.bodies[-1]["stop"] == ["so.", "\nI"]
  kept = Store(rows.parent / "S", "reader")
  assert {kept.text(key) for key in kept.kept} == {"It is so. The answer is 7.", "It is "}
