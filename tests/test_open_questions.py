"""The paper's open questions under gin/runs/: each runs, on a tiny random model, and asks what its first lines say."""

import json
from pathlib import Path

import pytest
from commands import records, results, runner

pytestmark = [pytest.mark.slow, pytest.mark.compiled_quickly]
NAMES = [f"smollm2_{size}_instruct" for size in ("135m", "360m", "1_7b")]
QUICK = ("--batch", "8", "--steps", "1", "--target_length", "4", "--slots", "4", "--reasoning_length", "16")
QUICK += ("--try_learning_rates", "0.001")


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
  folder = tmp_path_factory.mktemp("questions")
  for split, count in (("train", 24), ("validation", 4), ("test", 12)):
    lines = [
      {
        "id": f"{split}{n}",
        "input": f"What is {n} + 1, for {split}?",
        "question": f"What is {n} + 1, for {split}?",
        "passage": "Numbers follow one another.",
        "target": str(n + 1),
        "reasoning": f"Count on from {n} to the next number. The answer is {n + 1 if n % 4 else n}.",
      }
      for n in range(count)
    ]
    (folder / f"{split}.jsonl").write_text("\n".join(map(json.dumps, lines)))
  return folder


@pytest.fixture(scope="module")
def run(rows, tiny_checkpoint, tmp_path_factory):
  """Compares as the file says; returns the results by recipe, and the folder."""
  folder = tmp_path_factory.mktemp("runs")
  models = folder / "models.gin"
  models.write_text("".join(f"{name}/Checkpoint.sources = ('folder:{tiny_checkpoint}',)\n" for name in NAMES))

  def run(name: str, *words: str) -> tuple[dict, Path]:
    place = folder / name
    files = ("--gin_file", f"gin/runs/{name}.gin", "--gin_file", str(models))
    runner(rows, *QUICK)("compare", place, *files, *words)
    assert (place / "report.html").exists()
    return {result["recipe"]: result for result in results(place)["recipes"]}, place

  return run


def test_numbers_of_exemplars(run):
  found, folder = run("exemplars")
  assert [found[f"shots_{n}"]["shots"] for n in (0, 1, 2, 4, 8, 16)] == [0, 1, 2, 4, 8, 16]
  for name, result in found.items():
    prompt = records(folder / name / "answers" / "answers-00000.jsonl")[0]["prompt"]
    assert prompt.count("Count on from") == result["shots"]
    assert result["latency"]["p50"] > 0, "timed row by row"


def test_exemplars_of_the_big_model(rows, run, tiny_checkpoint, tmp_path):
  words = (
    "--beta",
    str(tiny_checkpoint),
    "--store",
    str(tmp_path / "store"),
    "--exemplars",
    str(rows / "train.jsonl"),
    "--recipes",
    "shots_0,shots_2",
  )
  found, _ = run("exemplars_of_beta", *words)
  assert list(found) == ["shots_0", "shots_2"] and all(r["switches"]["in_context"] == "beta" for r in found.values())


def test_qualities_of_reasoning(run):
  found, folder = run("reasoning_quality")
  first = {name: records(folder / name / "predictions" / "test.jsonl")[1] for name in found}
  assert "reasoning" not in first.pop("fine_tuning")
  read = {name: row["reasoning"] for name, row in first.items()}
  assert len(set(read.values())) == 5
  assert read["fiat"] == "Count on from 1 to the next number. The answer is 2."
  assert read["fiat_unanswered"].endswith("The answer is ….") and read["fiat_truncated"] == "Count on from 1 to the"


def test_wordings_of_the_instruction(run):
  found, folder = run("instruction_quality", "--input", "{question}")
  assert set(found) == {"fiat", "fiat_short", "fiat_long", "fiat_after", "fiat_wrong_instruction",
                        "fiat_without_instruction"}  # fmt: skip
  said = {name: (folder / name / "config.gin").read_text() for name in found}
  assert "INSTRUCTION = 'Translate the passage" in said["fiat_wrong_instruction"]
  assert "INSTRUCTION = 'Answer the question with" in said["fiat"]
  curves = [records(folder / name / "metrics.jsonl") for name in found]
  losses = [next(record["loss"] for record in curve if "loss" in record) for curve in curves]
  assert len(set(losses)) == 6, "each reads another prompt"


def test_ranks_and_adapters(run):
  found, _ = run("rank")
  tuned = [found[f"rank_{n}"]["tuned_parameters"] for n in (1, 2, 4, 8, 16, 64)]
  assert tuned == [tuned[0] * n for n in (1, 2, 4, 8, 16, 64)]
  found, _ = run("adapters")
  count = {name: result["tuned_parameters"] for name, result in found.items()}
  assert count["fiat_full"] > count["fiat_all_linear"] > count["fiat_dora"] > count["fiat"] == count["fiat_rslora"]
  assert min(count["fiat_ia3"], count["fiat_prompt"]) > 0


def test_sizes_of_the_tuned_model(run):
  found, folder = run("model_size")
  assert len(found) == 6
  named = {name: (folder / name / "config.gin").read_text() for name in found}
  assert "MODEL = 'smollm2_360m_instruct'" in named["fiat_middle"]
  assert "MODEL = 'smollm2_1_7b_instruct'" in named["fine_tuning_large"]


def test_more_rows(run):
  found, _ = run("more_rows", "--try_sizes", "8,16")
  assert [point["rows"] for point in found["fiat"]["sizes"]["points"]] == [8, 16, 24]
