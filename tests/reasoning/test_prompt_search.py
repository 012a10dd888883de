"""The search of prompts: a better wording is found, on rows kept for it, and no answer is paid for twice."""

import json
import re
import signal
import subprocess
import sys
import time

import pytest
from commands import records, results
from endpoint import Endpoint, served

from fiat_jax import cli
from fiat_jax.configuration import configure
from fiat_jax.errors import UserError
from fiat_jax.reasoning import candidates
from fiat_jax.reasoning.store import Store

pytestmark = pytest.mark.compiled_quickly

COUNTS = (("train", 8), ("validation", 24), ("test", 12))
DULL = "Think.\n\nEnd with: The answer is ANSWER.\n\n{x}\n\nReasoning:"
PLANTED = "Count on by one, and end with: The answer is ANSWER."


@pytest.fixture
def rows(tmp_path, monkeypatch):
  monkeypatch.setenv("OPENAI_API_KEY", "k")
  for split, count in COUNTS:
    lines = [
      {"id": f"{split}{n}", "group": f"{split}{n // 2}", "input": f"What is {n} + 1, of {split}?", "target": str(n + 1)}
      for n in range(count)
    ]
    (tmp_path / f"{split}.jsonl").write_text("\n".join(map(json.dumps, lines)))
  (tmp_path / "wordings.txt").write_text(f"{DULL}\n---\nMuse.\n\n{{x}}\n\nReasoning:\n")
  return tmp_path


def told(prompt: str, attempt: int) -> str:
  """The planted wording, where one is asked for; right answers under that, and mostly wrong ones under others."""
  if prompt.startswith("This instruction, with"):
    return PLANTED if "wording 1 of" in prompt else "Brood."
  number = int(re.findall(r"What is (\d+)", prompt)[-1])
  return f"The answer is {number + 1 if 'Count on' in prompt or number % 6 == 0 else 0}."


def words(verb, rows, url, *more):
  files = [word for split, _ in COUNTS for word in (f"--{split}", str(rows / f"{split}.jsonl"))]
  store = ["--store", str(rows / "S"), "--price", "1000,1000", "--beta", "openai:big", "--beta_url", url]
  tried = ["--try_reasoning_instructions", str(rows / "wordings.txt"), "--propose_reasoning_instructions", "2"]
  return [verb, *files, *store, *tried, "--metrics", "exact_match", "--reasoning_length", "100", *more]


def scored(prompts, split):
  return {row for prompt in prompts for row in re.findall(rf"What is \d+ \+ 1, of {split}", prompt)}


def test_a_planted_better_wording_is_found_and_used_and_nothing_is_paid_for_twice(rows):
  endpoint, folder = Endpoint(answer=told), rows / "run"
  with served(endpoint) as url:
    assert cli.main(words("annotate", rows, url)) == 0
    assert len(endpoint.bodies) == len(endpoint.answered), "each prompt was sent once"
    searched = [p for p in endpoint.answered if PLANTED not in p and not p.startswith("This instruction, with")]
    assert len(searched) == 4 * 12, "the one that is set, two of the file, one proposed, on half of validation"
    assert len(scored(searched, "validation")) == 12 and not scored(searched, "(test|train)")
    assert sum(PLANTED in prompt for prompt in endpoint.answered) == 8 + 24 + 12, "all rows, each once"
    before = len(endpoint.bodies)
    run = words("compare", rows, url, "--recipes", "beta,icl", "--model_dir", str(folder))
    assert cli.main(run) == 0
    assert len(endpoint.bodies) == before + 24, "compare asks its own recipe in context alone"
    assert cli.main(run) == 0 and len(endpoint.bodies) == before + 24
  trail = records(folder / "prompt_search.jsonl")
  assert [one["by"] for one in trail] == ["settings", "file", "file", "beta", "beta"]
  (chosen,) = [one for one in trail if one["chosen"]]
  assert chosen["text"] == f"{PLANTED}\n\n{{x}}\n\nReasoning:" and chosen["score"] == 100 and chosen["rows"] == 12
  assert chosen["above_set"][0] > 0 and trail[0]["above_set"] is None
  assert all(one["cost"] > 0 and one["interval"][0] <= one["score"] for one in trail)
  record = results(folder)
  assert record["prompt_search"] == trail and record["recipes"][0]["test"]["overall"]["exact_match"] == 100
  kept = {row["group"] for row in records(folder / "beta" / "predictions" / "validation.jsonl")}
  own = {f"validation{int(number) // 2}" for number in re.findall(r"What is (\d+) \+ 1, of validation", str(searched))}
  assert len(kept) == len(own) == 6 and not kept & own, "what is chosen on the other rows shares no group with these"
  assert repr(chosen["text"]) in (folder / "config.gin").read_text()
  for name in ("report.md", "report.html"):
    assert PLANTED in (folder / name).read_text()


@pytest.mark.slow
def test_a_search_that_is_killed_goes_on_and_pays_for_no_answer_again(rows):
  endpoint = Endpoint(answer=told)
  endpoint.delay = 0.05
  with served(endpoint) as url:
    run = words("annotate", rows, url, "--concurrency", "2", "--quiet")
    child = subprocess.Popen([sys.executable, "-m", "fiat_jax", *run])
    while len(endpoint.answered) < 20 and child.poll() is None:
      time.sleep(0.05)
    child.send_signal(signal.SIGKILL)
    child.wait()
    kept = len(Store(rows / "S", "reader").kept)
    assert 15 <= kept < 90
    asked = dict(endpoint.attempts)
    assert cli.main(run) == 0
    again = [prompt for prompt in asked if endpoint.attempts[prompt] > 1]
    assert len(again) <= 2, "what was under way, and nothing that was kept"
  assert sum(one["chosen"] for one in records(rows / "S" / "prompt_search.jsonl")) == 1


def test_a_search_says_what_it_takes_before_it_asks_and_keeps_to_the_budget(rows, capsys):
  endpoint = Endpoint(answer=told)
  with served(endpoint) as url:
    run = words("compare", rows, url, "--recipes", "icl", "--model_dir", str(rows / "run"))
    assert cli.main([*run, "--dry_run"]) == 0 and not endpoint.bodies
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("| --reasoning_instruction")]
    wordings, _, money = (cell.strip() for cell in line.split("|")[2:5])
    assert wordings == "5" and 5 * 12 * 0.05 < float(money) < 5 * 12 * 0.2
    assert cli.main([*run, "--budget", "60,0.5"]) == 2 and not endpoint.bodies
    assert "allows no search of prompts" in capsys.readouterr().err
    assert cli.main([*run, "--max_cost", "3"]) == 2
    spent, asked = endpoint.cost(1000, 1000), len(endpoint.bodies)
    assert 1 < spent <= 3 and "--max_cost 3 is reached" in capsys.readouterr().err
    assert cli.main([*run, "--max_cost", "50"]) == 0
    assert len(endpoint.bodies) == len(endpoint.answered) > asked


def test_a_file_that_is_split_gives_the_search_validation_rows_and_keeps_train_and_test(rows):
  data = rows / "all.jsonl"
  data.write_text("\n".join((rows / f"{split}.jsonl").read_text() for split, _ in COUNTS))
  endpoint = Endpoint(answer=told)
  with served(endpoint) as url:
    run = ["--data", str(data), "--validation_share", "0.5", *words("compare", rows, url, "--recipes", "icl")[7:]]
    bare = [*run[: run.index("--try_reasoning_instructions")], *run[run.index("--metrics") :]]
    for _ in range(2):
      assert cli.main(["compare", *run, "--model_dir", str(rows / "searched")]) == 0
    assert cli.main(["compare", *bare, "--model_dir", str(rows / "bare")]) == 0
  of = {name: json.loads((rows / name / "splits.json").read_text())["splits"] for name in ("searched", "bare")}
  assert all(of["searched"][split] == of["bare"][split] for split in ("train", "test"))
  assert set(of["searched"]["validation"]) < set(of["bare"]["validation"])
  (chosen,) = [one for one in records(rows / "searched" / "prompt_search.jsonl") if one["chosen"]]
  assert chosen["rows"] + len(of["searched"]["validation"]) == len(of["bare"]["validation"])


def test_the_shipped_run_names_wordings_that_can_be_used():
  settings = configure(["gin/runs/prompt_search.gin"], [], {}).settings
  assert settings.sought == ("instruction",) and len(candidates.given(settings, "instruction")) == 3


@pytest.mark.slow
def test_the_tuned_models_instruction_is_tried_in_context_and_of_equals_the_first_is_kept(
  rows, tiny_checkpoint, capsys
):
  endpoint, folder = Endpoint(answer=told), rows / "run"
  with served(endpoint) as url:
    run = words(
      "compare", rows, url, "--recipes", "icl,fine_tuning", "--model", str(tiny_checkpoint), "--model_dir", str(folder)
    )
    run[run.index("--try_reasoning_instructions")] = "--try_instructions"
    run[run.index("--propose_reasoning_instructions")] = "--propose_instructions"
    (rows / "wordings.txt").write_text("Answer: {x}\n---\nSay it.\n\n{x}\n")
    for _ in range(2):
      assert cli.main([*run, "--target_length", "4", "--steps", "1"]) == 0
    assert len(endpoint.bodies) == 2 + 24, "two wordings, and the recipe"
  assert "as under all 5 wordings: these rows do not tell them apart, and the first stays" in capsys.readouterr().err
  trail = records(folder / "prompt_search.jsonl")
  assert [(one["by"], one["chosen"]) for one in trail] == [
    *(("settings", True), ("file", False), ("file", False), ("beta", False), ("beta", False))
  ]
  assert {one["score"] for one in trail} == {0.0} and trail[3]["text"] == f"{PLANTED}\n\n{{x}}"
  rest = records(folder / "fine_tuning" / "predictions" / "validation.jsonl")
  assert cli.main(["evaluate", "--model_dir", str(folder / "fine_tuning")]) == 0
  assert records(folder / "fine_tuning" / "predictions" / "validation.jsonl") == rest and len(rest) == 12


REFUSED = {
  "needs 4 groups": ("--search_share", "0.1"),
  "there is none to be asked": ("--beta", "recorded"),
  "give --store FOLDER": ("--store", ""),
  "cannot be kept without the price": ("--price", "", "--max_cost", "1"),
  "goes by training rows": ("--train", ""),
  "there are none: give --validation": ("--validation", ""),
  "wordings.txt:9: the same instruction stands on line 1 already": DULL + "\n---\n" + DULL,
  "wordings.txt:3: there is no instruction between": "{x}\n---\n---\nb {x}",
  "wordings.txt: holds no instruction": "\n---\n\n",
  r"wordings.txt:1: .*hold \{x\}": "Think.",
  "cannot be read": None,
}


@pytest.mark.parametrize("message", REFUSED)
def test_what_cannot_be_searched_is_refused_in_one_line(rows, message, capsys):
  given = REFUSED[message]
  if isinstance(given, str):
    (rows / "wordings.txt").write_text(given)
  if given is None:
    (rows / "wordings.txt").unlink()
  more = given if isinstance(given, tuple) else ()
  run = words("compare", rows, "http://127.0.0.1:9/v1", "--recipes", "icl", "--model_dir", str(rows / "run"), *more)
  if message == "there is none to be asked":
    run[run.index("--beta_url") : run.index("--beta_url") + 2] = []
  assert cli.main(run) == 2
  (line,) = capsys.readouterr().err.splitlines()
  assert re.search(message, line) and not (rows / "run").exists() and not (rows / "S").exists()


def test_a_proposal_is_words_before_what_followed_the_words_that_there_were():
  now = "Think {{hard}}.\n\n{exemplars}Q: {x}\n\nA:"
  for written in ("Reason {a}.", '"Reason {a}."', "```\nReason {a}.\n```", "Reason {a}.\n\n{exemplars}Q: {x}\n\nA:"):
    found = candidates.proposed(written, now)
    assert found and found.text == "Reason {{a}}.\n\n{exemplars}Q: {x}\n\nA:"
    candidates.check(found.text, "reasoning_instruction")
  assert candidates.proposed(" {x} ", now) is None


def test_train_and_folds_refuse_a_search(rows):
  for more in (["--folds", "3", "--data", "d"], []):
    with pytest.raises(UserError, match="first, then give" if more else "compare searches prompts"):
      if not more:
        from fiat_jax.verbs import train

        train.main(configure([], [], {"TRY_INSTRUCTIONS": "w.txt", "TRAIN": str(rows / "train.jsonl")}))
      configure([], [], {"FOLDS": "3", "DATA": "d", "PROPOSE_INSTRUCTIONS": "1"})
