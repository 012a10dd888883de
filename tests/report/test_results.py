"""A run folder read back."""

import json

import pytest
import simulated

from fiat_jax.errors import UserError
from fiat_jax.report import results


def test_what_compare_wrote_is_read_back(tmp_path):
  comparison = results.read(simulated.write(tmp_path, ("fiat", "fine_tuning", "beta"), seeds=(1, 2)))
  fiat = comparison.result("fiat")
  assert comparison.metric == "exact_match" and comparison.languages == list(simulated.LANGS)
  assert fiat.scores("exact_match").shape == (2, 48) and fiat.scores("exact_match").mean() == pytest.approx(
    fiat.test["overall"]["exact_match"]
  )
  assert fiat.trains and fiat.reads_reasoning and not comparison.result("fine_tuning").reads_reasoning
  assert fiat.seconds == pytest.approx(1000 * 3 / 48), "the mean over seeds 1 and 2"
  assert comparison.result("beta").seconds is None and comparison.result("beta").of_beta


def test_a_pair_read_from_its_other_end_has_the_other_sign(tmp_path):
  comparison = results.read(simulated.write(tmp_path, ("fiat", "beta")))
  one, other = comparison.results
  there, back = comparison.pair(one, other), comparison.pair(other, one)
  assert there and back and there["difference"] == -back["difference"]
  assert tuple(there["interval"]) == (-back["interval"][1], -back["interval"][0])


def test_a_broken_folder_is_named(tmp_path):
  with pytest.raises(UserError, match=r"results\.json: is missing: run the command that writes it again"):
    results.read(tmp_path)
  folder = simulated.write(tmp_path, ("fiat", "beta"))
  file = folder / "beta" / "predictions" / "test.jsonl"
  file.write_text("".join(file.read_text(encoding="utf-8").splitlines(keepends=True)[:0]))
  with pytest.raises(UserError, match="beta answered other rows"):
    results.read(folder)
  (folder / "results.json").write_text(json.dumps({"recipes": []}))
  with pytest.raises(UserError, match="no scores on test"):
    results.read(folder)
