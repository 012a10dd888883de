"""What is said before anything is asked: it is what is asked, and no target leaves unsaid."""

from __future__ import annotations

import json

from annotating import words
from endpoint import Endpoint, served

from fiat_jax import cli

URL = "http://127.0.0.1:9/v1"


def test_an_input_that_holds_the_target_is_refused_and_nothing_is_sent(rows, capsys):
  endpoint = Endpoint()
  with served(endpoint) as url:
    for columns in (("--input", "{input} / {target}"), ("--target", "input")):
      for more in (("--dry_run",), ()):
        assert cli.main(words(rows, url, *columns, *more)) == 2
        told = capsys.readouterr()
        assert "the answers would be sent" in told.err and "SECRET" not in told.out
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
