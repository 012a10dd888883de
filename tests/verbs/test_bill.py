"""A comparison of rows without reasoning says what that would cost before it does, or refuses, anything else."""

import pytest
from commands import SPLITS, write_questions

from fiat_jax import cli


@pytest.mark.parametrize(("price", "told"), [("1000,1000", "out, "), ("", "--price INPUT,OUTPUT")])
def test_the_bill_comes_first(tmp_path, monkeypatch, capsys, price, told):
  monkeypatch.setenv("OPENAI_API_KEY", "k")
  rows, store = write_questions(tmp_path), tmp_path / "S"
  files = [word for split in SPLITS for word in (f"--{split}", str(rows / f"{split}.jsonl"))]
  asked = ["--beta", "openai:big", "--beta_context", "8192", "--store", str(store), "--price", price]
  asked += ["--model_dir", str(tmp_path / "run")]
  assert cli.main(["compare", *files, *asked, "--recipes", "beta"]) == 2
  first, *lines = capsys.readouterr().err.splitlines()
  assert first.startswith("14 rows have no reasoning in") and first.endswith("is to ask big 8 times"), (
    "of one input once"
  )
  assert lines[1].startswith("likely:") and any(told in line for line in lines) and lines[-1].startswith("error: ")
  assert cli.main(["annotate", *files, *asked, "--dry_run"]) == 0
  assert lines[1] in capsys.readouterr().out, "as annotate says it"
  assert cli.main(["compare", *files, *asked, "--recipes", "icl", "--dry_run"]) == 0
  assert "likely:" not in capsys.readouterr().err, "a recipe that reads none needs none"
