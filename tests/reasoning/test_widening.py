"""A comparison that is done is widened: by seeds, a store, a big model that is asked. What is done stays as it was."""

import pytest
from commands import records, results, write_questions
from endpoint import Endpoint, served

from fiat_jax import cli

pytestmark = pytest.mark.compiled_quickly
TUNED = ("fine_tuning", "sizes/fine_tuning/4")


@pytest.mark.slow
def test_what_is_done_stays_where_seeds_a_store_and_a_big_model_come(tiny_checkpoint, tmp_path, monkeypatch, capsys):
  monkeypatch.setenv("OPENAI_API_KEY", "k")
  rows, run = write_questions(tmp_path), tmp_path / "run"
  files = [word for split in ("train", "validation", "test") for word in (f"--{split}", f"{rows / split}.jsonl")]
  model = ["--model", str(tiny_checkpoint), "--batch", "4", "--steps", "1", "--target_length", "4", "--slots", "4"]
  words = ["compare", *files, *model, "--model_dir", str(run), "--try_sizes", "4"]
  assert cli.main([*words, "--recipes", "fine_tuning"]) == 0
  before = {name: (run / name / "metrics.jsonl").stat().st_mtime_ns for name in TUNED}
  two = [*words, "--seeds", "0,1"]
  assert cli.main([*two, "--recipes", "fine_tuning", "--dry_run"]) == 0
  assert "| fine-tuning |    2 |" in capsys.readouterr().err
  assert (run / "fine_tuning" / "results.json").exists(), "a plan moves nothing"
  with served(Endpoint()) as url:
    beta = ["--beta", "openai:big", "--beta_url", url, "--store", str(tmp_path / "S")]
    assert cli.main(["annotate", *files, *beta]) == 0
    assert cli.main([*two, *beta, "--recipes", "fine_tuning,fiat,icl"]) == 0
    assert cli.main([*words, *beta, "--recipes", "fine_tuning"]) == 2
    assert "SEEDS was (0, 1), now (0,)" in capsys.readouterr().err
    assert cli.main([*two, *beta[:-1], str(tmp_path / "T"), "--recipes", "fine_tuning"]) == 2
    assert "STORE was" in capsys.readouterr().err
  for name in TUNED:
    assert (run / name / "seed_0" / "metrics.jsonl").stat().st_mtime_ns == before[name]
    assert f"MODEL_DIR = {str(run / name / 'seed_0')!r}" in (run / name / "seed_0" / "config.gin").read_text()
    assert sorted(path.name for path in (run / name).iterdir()) == ["seed_0", "seed_1"]
  found = {result["recipe"]: result for result in results(run)["recipes"]}
  assert set(found) == {"fine_tuning", "fiat", "icl"}
  assert [one["seed"] for one in found["fine_tuning"]["seeds"]] == [0, 1]
  assert all("I think." in row["reasoning"] for row in records(run / "fiat" / "seed_1" / "predictions" / "test.jsonl"))
