"""Predictions of a model on rows, their scores, and the files that hold them."""

from __future__ import annotations

import dataclasses
import json
import pathlib
from collections.abc import Callable, Sequence
from typing import Any, Literal

from fiat_jax.data.batches import Shard
from fiat_jax.data.rows import Row
from fiat_jax.data.tokenizer import Tokenizer
from fiat_jax.decoding.beam import Beams, search
from fiat_jax.decoding.engine import Engine
from fiat_jax.decoding.label_rows import Shared
from fiat_jax.decoding.likelihood import label_logprobs, share
from fiat_jax.decoding.request import Completion, Request
from fiat_jax.decoding.sampling import Sampling
from fiat_jax.evaluation import metrics, ranking
from fiat_jax.evaluation.shared import Group, grouped
from fiat_jax.evaluation.statistics import standard_error
from fiat_jax.reasoning.answers import AnswerRule, chosen
from fiat_jax.whole import read_records, write_whole

OnDone = Callable[[], None]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Prediction:
  """What was answered to a row. `fault` says why there is no whole answer, where there is none."""

  row: Row
  text: str
  fault: Literal["", "empty", "unfinished", "unparsed"] = ""
  logprob: float | None = None
  label_logprobs: dict[str, float] | None = None
  judged: dict[str, float] = dataclasses.field(default_factory=dict)  # scores of a judge, by metric

  def scores(self, names: Sequence[str]) -> dict[str, float]:
    """Each metric of this answer alone."""
    return metrics.score(names, self.text, self.row.targets, self.row.lang) | self.judged


def generate(
  engine: Engine,
  tokenizer: Tokenizer,
  rows: Sequence[Row],
  shard: Shard,
  *,
  target_length: int,
  on_done: OnDone,
  beams: Beams | None = None,
  temperature: float = 0.0,
  as_written: bool = False,
) -> list[Prediction]:
  """Answers, greedy, drawn at a temperature (by the row's number), or the best that beam search finds.

  Args:
    shard: the rows' prompts in the same order.
    as_written: blanks around an answer are kept.
  """
  requests = [
    Request(
      tokens=shard[n].inputs.tolist(), max_new_tokens=target_length, sampling=Sampling(temperature=temperature, seed=n)
    )
    for n in range(len(rows))
  ]
  shared = shard.shared_prefix()
  if beams:
    found = search(engine, requests, beams, lambda number, answers: on_done(), shared=shared)
    completions = [answers[0].completion for answers in found]
  else:
    completions = engine.generate(requests, lambda number, completion: on_done(), shared=shared)
  pairs = zip(rows, completions, strict=True)
  return [_generated(row, tokenizer, completion, as_written) for row, completion in pairs]


def choose_label(
  engine: Engine, tokenizer: Tokenizer, rows: Sequence[Row], shard: Shard, *, on_done: OnDone
) -> list[Prediction]:
  """The row's label of the highest log-likelihood, end mark included (t5's rank classification).

  What the prompts of a subject begin with, its shots, is computed once.
  """
  predictions: dict[int, Prediction] = {}
  for group in grouped(shard) if len(rows) == len(shard) else [Group(list(range(len(rows))), 0)]:
    known = share(engine.model, engine.weights, shard[group.rows[0]].inputs[: group.shared].tolist())
    for number in group.rows:
      row = rows[number]
      scores = label_scores(engine, tokenizer, row.labels, shard[number].inputs.tolist(), known)
      best = max(scores, key=scores.__getitem__)
      predictions[number] = Prediction(row=row, text=best, logprob=scores[best], label_logprobs=scores)
      on_done()
  return [predictions[number] for number in range(len(rows))]


def label_scores(
  engine: Engine, tokenizer: Tokenizer, labels: Sequence[str], prompt: Sequence[int], shared: Shared | None = None
) -> dict[str, float]:
  """Summed log P of each label, end mark included, after the prompt's ids, in the labels' order."""
  end = [] if tokenizer.end_id is None else [tokenizer.end_id]
  ids = [tokenizer.encode(label) + end for label in labels]
  scores = label_logprobs(engine.model, engine.weights, prompt, ids, shared)
  return dict(zip(labels, map(float, scores), strict=True))


def answers_of_beta(rows: Sequence[Row], rule: AnswerRule) -> list[Prediction]:
  """The big model's own answers, parsed from its reasoning (of labels the one that is named), or an empty text."""
  answers = [rule.read(row.reasoning or "") for row in rows]
  return [
    Prediction(row=row, text=chosen(answer or "", row.labels), fault="" if answer else "unparsed")
    for row, answer in zip(rows, answers, strict=True)
  ]


def _generated(row: Row, tokenizer: Tokenizer, completion: Completion, as_written: bool) -> Prediction:
  written = tokenizer.decode(completion.tokens)
  text = written if as_written else written.strip()
  fault = "empty" if not text.strip() else "unfinished" if completion.finish == "length" else ""
  return Prediction(row=row, text=text, fault=fault, logprob=completion.logprob)


def summarise(predictions: Sequence[Prediction], names: Sequence[str]) -> dict[str, Any]:
  """Scores overall (macro average over languages), their standard errors, by language; how many answers were faulty."""
  scores = [p.scores(names) for p in predictions]
  languages = metrics.by_language([p.row.lang for p in predictions], scores)
  if "auc_pr" in names:
    for lang, found in languages.items():
      mine = [p for p in predictions if p.row.lang == lang]
      area = ranking.auc_pr([p.label_logprobs for p in mine], [p.row.targets for p in mine])
      found |= {} if area is None else {"auc_pr": area}
  counts = {fault: sum(p.fault == fault for p in predictions) for fault in ("empty", "unfinished", "unparsed")}
  overall = metrics.macro_average(languages)
  langs, groups = [p.row.lang for p in predictions], [p.row.group for p in predictions]
  errors = {
    name: standard_error([row[name] for row in scores], langs, groups) for name in overall if name not in metrics.POOLED
  }
  found = {"rows": len(predictions), "overall": overall, "standard_error": errors, "languages": languages}
  return found | counts


def write_predictions(
  path: pathlib.Path, predictions: Sequence[Prediction], names: Sequence[str], *, with_reasoning: bool = False
) -> None:
  """One JSON object a row, in the rows' order; the file appears whole or not at all.

  Args:
    with_reasoning: the big model's reasoning stands in it, which was read.
  """
  lines = []
  for p in predictions:
    record: dict[str, Any] = {
      "id": p.row.id,
      "lang": p.row.lang,
      "group": p.row.group,
      "input": p.row.x,
      "target": p.row.targets[0] if len(p.row.targets) == 1 else list(p.row.targets),
      "prediction": p.text,
    }
    record |= {"reasoning": p.row.reasoning} if with_reasoning else {}
    if p.row.targets:
      record |= p.scores(names)
    else:
      del record["target"]
    record |= {"fault": p.fault} if p.fault else {}
    record |= {"logprob": p.logprob} if p.logprob is not None else {}
    record |= {"label_logprobs": p.label_logprobs} if p.label_logprobs else {}
    lines.append(json.dumps(record, ensure_ascii=False) + "\n")
  write_whole(path, "".join(lines))


def read_predictions(path: pathlib.Path) -> list[Prediction]:
  """What `write_predictions` wrote of rows with targets: all that is scored and shown of them."""
  return [_prediction(record) for record in read_records(path)]


def _prediction(record: dict[str, Any]) -> Prediction:
  target = record["target"]
  row = Row(
    id=record["id"],
    lang=record["lang"],
    group=record["group"],
    x=record["input"],
    targets=(target,) if isinstance(target, str) else tuple(target),
    reasoning=record.get("reasoning"),
    labels=(),
    line=0,
    fields={},
  )
  return Prediction(
    row=row,
    text=record["prediction"],
    fault=record.get("fault", ""),
    logprob=record.get("logprob"),
    label_logprobs=record.get("label_logprobs"),
    judged={name: record[name] for name in metrics.JUDGED if name in record},
  )


def read_scores(path: pathlib.Path, metric: str) -> list[float]:
  """One metric of every row, in the rows' order, from what `write_predictions` wrote."""
  return [record[metric] for record in read_records(path)]
