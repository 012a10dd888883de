"""A comparison's run folder without training: drawn answers, scored, judged and written by the package's own code."""

from __future__ import annotations

import dataclasses
import json
import pathlib
from collections.abc import Mapping, Sequence

import numpy as np

from fiat_jax.data.rows import Row
from fiat_jax.evaluation import statistics, verdict
from fiat_jax.evaluation.evaluate import Prediction, read_scores, summarise, write_predictions
from fiat_jax.evaluation.statistics import Scored
from fiat_jax.evaluation.verdict import Candidate
from fiat_jax.recipe import Recipe

METRICS = ("exact_match", "f1_squad")
LANGS = ("ar", "bn", "en", "hi")
HOSTILE = '</script><script>document.title = "taken"</script><img src=x onerror="throw 1">'
QUESTIONS = {
  "ar": "ما هي عاصمة فرنسا؟",
  "bn": "ফ্রান্সের রাজধানী কী?",
  "en": f"Capital? {HOSTILE}",
  "hi": "फ़्रांस की राजधानी क्या है?",
}
RECIPES: Mapping[str, tuple[Recipe, float]] = {  # with its share of right answers
  "fiat": (Recipe(reasoning=True, title="FIAT"), 0.9),
  "fine_tuning": (Recipe(title="fine-tuning"), 0.5),
  "bare": (Recipe(instruction=False, title="LoRA alone <b>&amp;</b> $x$"), 0.45),
  "full_fine_tuning": (Recipe(instruction=False, adapter="full", title="full fine-tuning"), 0.4),
  "untuned": (Recipe(reasoning=True, adapter="none", title="untuned"), 0.3),
  "beta": (Recipe(adapter="none", answer_of_beta=True, title="beta alone"), 0.85),
}

MORE: Mapping[str, tuple[Recipe, float]] = {  # what the paper's Figures 4 and 6 are made of beside those
  "distilled": (Recipe(distils=True, title="distilled CoT"), 0.6),
  "distilled_then_fiat": (Recipe(reasoning=True, begins_with="distilled", title="distilled, then FIAT"), 0.9),
  "without": (Recipe(reasoning=True, instruction=False, title="FIAT without instruction"), 0.7),
  "base": (Recipe(reasoning=True, instruction_tuned=False, title="FIAT, base model"), 0.6),
  "base_without": (Recipe(reasoning=True, instruction=False, instruction_tuned=False, title="bare, base model"), 0.55),
}
EVERY = {**RECIPES, **MORE}
PROMPTS = [  # the trail of a search
  {"setting": "instruction", "text": "Answer.\n\n{x}", "by": "settings", "score": 40.0, "interval": [30.0, 50.0],
   "above_set": None, "metric": METRICS[0], "rows": 24, "no_whole_answer": 0, "cost": 0.0, "chosen": False},
  {"setting": "instruction", "text": f"Answer {HOSTILE} {'long ' * 60}\n\n{{x}}", "by": "beta", "score": 60.0,
   "interval": [50.0, 70.0], "above_set": [5.0, 35.0], "metric": METRICS[0], "rows": 24, "no_whole_answer": 0,
   "cost": None, "chosen": True},
  {"setting": "instruction", "text": "", "by": "beta", "fault": "empty", "chosen": False},
]  # fmt: skip


TRIAL = {"learning_rate": 0.002, "validation": 61.0, "best_step": 4, "steps": 8}
LEARNED = {  # of a recipe that was searched and tried on fewer rows
  "sizes": {
    "points": [{"rows": n, "test": n / 4, "interval": (10.0, 70.0), "validation": n / 4} for n in (100, 200)],
    "more": {"rows": 400, "gain": 5.8, "interval": (-2.0, 9.0)},
  },
  "tried": [TRIAL, {**TRIAL, "learning_rate": 0.001, "chosen": True}],
  "tokens": {key: {"median": 12, "99 %": 40, "longest": 55} for key in ("inputs", "targets")},
}
BESIDE = {  # of a comparison that has all that a page can show
  "labels": {"train": {"yes": 4, HOSTILE: 3}, "test": {"yes": 40}},
  "published": [
    {"who": f"they {HOSTILE}", "recipe": "fiat", "metric": METRICS[0], "langs": [], "score": 71.2, "differs": HOSTILE}
  ],
  "sizes": [
    {"first": "fiat", "second": "fine_tuning", "rows": 100, "difference": 9.0, "interval": [2.0, 15.0], "p": 0.01}
  ],
}


def complete(folder: pathlib.Path) -> pathlib.Path:
  """Adds to a comparison with `fiat` and `fine_tuning` whatever else a page can show."""
  record = json.loads((folder / "results.json").read_text())
  record |= BESIDE
  record["recipes"] = [of | LEARNED if of.get("curve") else of for of in record["recipes"]]
  (folder / "results.json").write_text(json.dumps(record))
  return folder


def rows(groups: int = 12, langs: Sequence[str] = LANGS) -> list[Row]:
  """A row a group and language."""
  return [
    Row(
      id=f"{group}-{lang}",
      lang=lang,
      group=f"group {group}",
      x=f"{QUESTIONS.get(lang, lang)} ({group})",
      targets=(f"right {group}",),
      reasoning=f"It is known {HOSTILE}\u2028that the answer is right {group}.",
      labels=(),
      line=1,
      fields={},
    )
    for group in range(groups)
    for lang in langs
  ]


def write(
  folder: pathlib.Path,
  names: Sequence[str] = tuple(RECIPES),
  seeds: Sequence[int] = (0,),
  groups: int = 12,
  cost: float | None = None,
  validation: Mapping[str, float] | None = None,
  beta_seconds: float | None = None,
) -> pathlib.Path:
  """The run folder of these recipes, as `fiat compare` leaves it.

  `cost`, `beta_seconds`: what the big model takes per 1,000 answers. `validation`: scores there that decide, where
  they are to be other ones than on test.
  """
  asked = rows(groups)
  langs, of_groups = [row.lang for row in asked], [row.group for row in asked]
  results, scores, candidates = [], {}, []
  for name in names:
    recipe, _ = EVERY[name]
    result, files = _run(folder / name, name, asked, seeds if recipe.trains else (0,))
    results.append(result)
    scores[name] = np.array([read_scores(file, METRICS[0]) for file in files])
    known = (validation or {}).get(name, result["validation"]["overall"][METRICS[0]])
    candidates.append(Candidate(name=name, recipe=recipe, validation=known))
  drawn = statistics.resample(Scored(scores=scores, langs=langs, groups=of_groups))
  for result in results:
    asks = result["switches"]["reasoning"] or result["switches"]["answer_of_beta"]
    result |= {"reasoning_cost": cost} if asks and cost is not None else {}
    result |= {"reasoning_seconds": beta_seconds} if asks and beta_seconds is not None else {}
    result["interval"] = verdict.score_interval(drawn, result["recipe"])
  found = dataclasses.asdict(verdict.decide(candidates, drawn, METRICS[0])) if len(names) > 1 else None
  record = {
    "metrics": METRICS,
    "to_come": [],
    "recipes": results,
    "verdict": found,
    "could_show": "test: many rows can show much",
    "programs": {"made": 71, "found": 4},
    "basis": {
      "models": [f"smollm2 {HOSTILE}"],
      "train_rows": 7,
      "seeds": list(seeds),
      "searched": False,
      "reasoning": HOSTILE,
    },
    "rows": {"train": {"en": 7}, "test": {lang: langs.count(lang) for lang in LANGS}},
    "warnings": [f"leak: {HOSTILE}"],
    "prompt_search": PROMPTS,
  }
  (folder / "results.json").write_text(json.dumps(record))
  return folder


def _run(folder: pathlib.Path, name: str, asked: Sequence[Row], seeds: Sequence[int]):
  recipe, share = EVERY[name]
  runs, files = [], []
  for seed in seeds:
    draws = np.random.default_rng([seed, len(name), len(folder.name)]).random(len(asked))
    answers = [
      Prediction(row=row, text=row.targets[0] if draw < share else f"left {HOSTILE}")
      for row, draw in zip(asked, draws, strict=True)
    ]
    files.append((folder / f"seed_{seed}" if len(seeds) > 1 else folder) / "predictions" / "test.jsonl")
    files[-1].parent.mkdir(parents=True)
    write_predictions(files[-1], answers, METRICS, with_reasoning=recipe.needs_reasoning)
    test = summarise(answers, METRICS)
    unaided = recipe.trains and recipe.reasoning
    if unaided:
      left_out = [Prediction(row=row, text=row.targets[0] if n % 4 else "left") for n, row in enumerate(asked)]
      path = files[-1].parents[1] / "without_reasoning" / "predictions" / "test.jsonl"
      path.parent.mkdir(parents=True)
      write_predictions(path, left_out, METRICS)
    run = {"recipe": name, "title": recipe.title, "seed": seed, "validation": test, "test": test}
    run |= {"without_reasoning": summarise(left_out, METRICS)} if unaided else {}
    if not recipe.answer_of_beta:
      run |= {"answer_seconds": {"test": 1.5 + seed}}
    if recipe.trains:
      run |= {"tuned_parameters": 1000, "curve": [{"step": n, METRICS[0]: 100 * share * n / 2} for n in range(3)]}
    runs.append(run)
  switches = {key: value for key, value in dataclasses.asdict(recipe).items() if key != "title"}
  result = {**runs[0], "switches": switches}
  if len(runs) > 1:
    result |= {"seed": None, "seeds": runs, "test": _mean([run["test"] for run in runs])}
  return result, files


def _mean(summaries):
  if isinstance(summaries[0], dict):
    return {key: _mean([summary[key] for summary in summaries]) for key in summaries[0]}
  return sum(summaries) / len(summaries)
