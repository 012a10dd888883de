"""The big model's seconds, from a store's records."""

import json

import pytest
from commands import results
from endpoint import Endpoint, served

from fiat_jax import cli
from fiat_jax.data.reasoned import row_key
from fiat_jax.reasoning.durations import of_inputs
from fiat_jax.reasoning.records import Records


def write(store, *answers):
  """Of each the input, the request's key and the seconds."""
  log = Records(store, "answers")
  with log.locked():
    log.append(
      [
        {"kind": "answer", "row": row_key(x), "key": key} | ({} if s is None else {"seconds": s})
        for x, key, s in answers
      ]
    )


def test_samples_are_summed_for_a_thousand_and_asked_at_once_for_one(tmp_path):
  write(tmp_path, *((f"x{n}", f"{n}.{sample}", 1.0 + sample) for n in range(20) for sample in range(2)))
  found = of_inputs(tmp_path, [f"x{n}" for n in range(20)])
  assert found["reasoning_seconds"] == pytest.approx(3000)
  assert found["reasoning_latency"] == {"p50": 2.0, "p95": 2.0, "rows": 20}
  only = of_inputs(tmp_path, [f"x{n}" for n in range(20)], frozenset(f"{n}.0" for n in range(20)))
  assert only["reasoning_seconds"] == pytest.approx(1000), "of these requests alone"


def test_what_was_not_timed_is_not_known(tmp_path):
  write(tmp_path, ("one", "a", 1.0), ("two", "b", None))
  assert of_inputs(tmp_path, ["one", "two"]) == {} and of_inputs(tmp_path, ["one", "three"]) == {}
  assert of_inputs(tmp_path, ["one"]) == {"reasoning_seconds": 1000.0}, "few inputs have no quantiles"


def test_a_comparison_keeps_the_seconds_of_the_reasoning_that_it_reads(tmp_path, monkeypatch):
  monkeypatch.setenv("OPENAI_API_KEY", "k")
  files = []
  for split, count in (("validation", 4), ("test", 12)):
    file = tmp_path / f"{split}.jsonl"
    file.write_text("\n".join(json.dumps({"input": f"{split} {n}?", "target": str(n)}) for n in range(count)))
    files += [f"--{split}", str(file)]
  with served(Endpoint(answer=lambda *_: "Count on. The answer is 3.")) as url:
    asked = [*files, "--store", str(tmp_path / "S"), "--beta", "openai:big", "--beta_url", url, "--price", "1,1"]
    assert cli.main(["annotate", *asked]) == 0
    assert cli.main(["compare", *asked, "--recipes", "beta", "--model_dir", str(tmp_path / "run")]) == 0
  (found,) = results(tmp_path / "run")["recipes"]
  assert 0 < found["reasoning_seconds"] < 5000
  assert 0 < found["reasoning_latency"]["p50"] <= found["reasoning_latency"]["p95"] < 5
