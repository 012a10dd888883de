"""What is said before anything is asked: it is what is asked, and no target leaves unsaid."""

from __future__ import annotations

import json
import re

from annotating import words
from endpoint import Endpoint, right, served

from fiat_jax import cli

URL = "http://127.0.0.1:9/v1"


def test_an_input_that_holds_the_target_is_refused_and_nothing_is_sent(rows, capsys):
  endpoint = Endpoint()
  with served(endpoint) as url:
    for columns in (("--input", "{input} / {target}"), ("--target", "input")):
      for more in (("--dry_run",), ()):
        assert cli.main(words(rows, url, *columns, *more)) == 2
        told = capsys.readouterr()
        assert "the label would stand in the prompt" in told.err and "SECRET" not in told.out
  assert not endpoint.bodies


def test_the_columns_of_all_rows_and_of_exemplars_are_listed(rows, capsys):
  lines = [json.loads(line) for line in rows.read_text().splitlines()]
  lines = [{"id": line["id"], "question": line["input"], "target": line["target"]} for line in lines]
  lines[7]["note"] = "a note"
  lines[3]["reasoning"] = "So. The answer is SECRET3."
  rows.write_text("\n".join(map(json.dumps, lines)))
  assert cli.main(words(rows, URL, "--dry_run")) == 0
  shown = capsys.readouterr().out
  assert "of each row note, question leaves this machine" in shown and "of each exemplar" not in shown
  assert "its column 'target' is not sent" in shown
  assert cli.main(words(rows, URL, "--dry_run", "--exemplars", "train")) == 0
  shown = capsys.readouterr().out
  assert "SECRET3" in shown
  assert "of each exemplar (out of train) question and reasoning, which gives its answer away, leaves" in shown


def test_one_whole_request_and_the_cost_come_before_the_first_is_sent_unless_it_is_to_be_quiet(rows, capsys):
  endpoint = Endpoint()
  said_before = []

  def answer(prompt: str, attempt: int) -> str:
    said_before.append(capsys.readouterr().err)
    return right(prompt, attempt)

  endpoint.answer = answer
  more = ("--train", f"{rows}[:4]", "--concurrency", "1", "--temperature", "0.5", "--stops", "END")
  with served(endpoint) as url:
    assert cli.main(words(rows, url, *more, "--dry_run")) == 0
    dry = capsys.readouterr().out.strip()
    assert cli.main(words(rows, url, *more)) == 0
    assert said_before[0].startswith(dry) and len(said_before) == 4
    capsys.readouterr()
    assert cli.main(words(rows, url, *more, "--quiet", "--store", str(rows.parent / "T"))) == 0
  assert 'model "big", max_tokens 100, temperature 0.5, stop ["END"]' in dry
  assert f"[user] {endpoint.bodies[0]['messages'][0]['content']}\n---" in dry
  assert "low:" in dry and "likely:" in dry and "cap:" in dry and "4 requests are to be asked" in dry
  assert not any(said_before[4:]) and "---" not in capsys.readouterr().err


def test_a_command_that_asks_few_or_goes_on_shows_and_counts_what_is_left(rows, capsys):
  with served(Endpoint()) as url:
    assert cli.main(words(rows, url, "--limit", "2")) == 0
    told = capsys.readouterr()
    assert "2 requests are to be asked" in told.err and "What is 0 + 1?" in told.err.split("---")[1]
    assert "--- prompt (en)\n[user] Think" in told.out
    assert cli.main(words(rows, url, "--limit", "3", "--dry_run")) == 0
  shown = capsys.readouterr().out
  assert "1 requests are to be asked" in shown and "What is 0 + 1?" not in shown and "What is 2 + 1?" in shown


def test_of_a_checkpoint_the_prompt_stands_in_its_chat_template(rows, capsys, tiny_checkpoint):
  local = ["annotate", "--train", str(rows), "--beta", str(tiny_checkpoint), "--dry_run", "--stops", "END"]
  assert cli.main(local) == 0
  shown = capsys.readouterr().out
  assert "<|im_start|>user\nThink" in shown and "Reasoning:<|im_end|>\n<|im_start|>assistant\n\n---" in shown
  assert f'model "{tiny_checkpoint}@' in shown and 'temperature 0.0, stop ["END"]' in shown
  assert cli.main([*local, "--beta_template", "plain"]) == 0
  assert "<|im_start|>" not in capsys.readouterr().out


def counted(capsys) -> tuple[int, float]:
  """The requests that a dry run says are to be asked, and the cap in money."""
  shown = capsys.readouterr().out
  cap = next(line for line in shown.splitlines() if line.startswith("cap:"))
  return int(re.findall(r"(\d+) requests are to be asked", shown)[0]), float(cap.rpartition(",")[2])


def test_a_dry_run_counts_what_would_be_asked_again(rows, capsys):
  endpoint = Endpoint(lambda e, prompt, attempt: "length" if "is 1" in prompt and attempt == 1 else "")
  with served(endpoint) as url:
    assert cli.main(words(rows, url)) == 2
    capsys.readouterr()
    assert cli.main(words(rows, url, "--dry_run")) == 0
    assert counted(capsys) == (0, 0.0)
    assert cli.main(words(rows, url, "--dry_run", "--retry_failed")) == 0
    count, cap = counted(capsys)
    before, paid = len(endpoint.bodies), endpoint.cost(1000, 1000)
    assert cli.main(words(rows, url, "--retry_failed")) == 0
  assert count == len(endpoint.bodies) - before == 11 and 0 < endpoint.cost(1000, 1000) - paid <= cap


def test_a_dry_run_counts_what_an_import_would_answer_and_takes_over_nothing(rows, capsys):
  file, other = rows.parent / "answers.jsonl", rows.parent / "T"
  with served(Endpoint()) as url:
    assert cli.main(words(rows, url, "--train", f"{rows}[:30]", "--export_to", str(file))) == 0
    again = words(rows, url, "--store", str(other), "--import_from", str(file), "--dry_run")
    capsys.readouterr()
    assert cli.main(again) == 0 and not other.exists()
    assert counted(capsys)[0] == 6
    nothing_else = ["annotate", "--import_from", str(file), "--store", str(other), "--dry_run"]
    assert cli.main(nothing_else) == 0 and "holds 30 answers" in capsys.readouterr().err
    other.mkdir()
    assert cli.main(again) == 0 and not list(other.glob("answers-*"))
    assert counted(capsys)[0] == 6
    file.write_text(file.read_text() + '{"kind": "answer"}\n')
    assert cli.main(again) == 2 and "answers.jsonl:32: is no answer of a store" in capsys.readouterr().err
