"""What came of the requests, row by row: the reasoning that counts, its answer, or why there is none."""

from __future__ import annotations

import collections
import dataclasses
import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from fiat_jax.data.reasoned import row_key
from fiat_jax.data.rows import Row
from fiat_jax.reasoning.answers import AnswerRule, read_leniently, same, vote
from fiat_jax.reasoning.plan import Plan
from fiat_jax.reasoning.store import Store
from fiat_jax.whole import write_whole


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outcome:
  """Of one row. `fault` is empty where `reasoning` can be used, and None where nobody was asked yet.

  `lenient` is what might be the answer where the rule finds none; `votes` is (samples that agree, samples).
  """

  reasoning: str = ""
  answer: str | None = None
  lenient: str | None = None
  fault: str | None = None
  votes: tuple[int, int] = (0, 0)

  @property
  def done(self) -> bool:
    return self.fault == ""


def outcomes(plan: Plan, store: Store, rule: AnswerRule | None) -> dict[str, Outcome]:
  """By row's key. Without a rule, any text counts."""
  texts = store.texts({request.key for request in plan.requests})
  found = {}
  for row, requests in plan.of_row.items():
    said = [texts[request.key] for request in requests if request.key in texts]
    if said:
      found[row] = _of_texts(said, rule)
    else:
      faults = [store.kept[r.key].fault for r in requests if r.key in store.kept]
      faults += [store.failures[r.key] for r in requests if r.key in store.failures]
      found[row] = Outcome(fault=faults[0] if faults else None)
  return found


def _of_texts(texts: Sequence[str], rule: AnswerRule | None) -> Outcome:
  if rule is None:
    return Outcome(reasoning=texts[0], fault="", votes=(1, len(texts)))
  answers = [rule.read(text) for text in texts]
  voted = vote(answers)
  if voted is None:
    return Outcome(
      lenient=read_leniently(texts[0]), reasoning=texts[0], fault="unparsed: --answer finds no answer in it"
    )
  winner, count = voted
  return Outcome(reasoning=texts[winner], answer=answers[winner], fault="", votes=(count, len(texts)))


def records(plan: Plan, found: Mapping[str, Outcome]) -> dict[str, dict[str, Any]]:
  """The view's records of rows with reasoning; `right` by the training row's target where one has the input."""
  targets: dict[str, Sequence[str]] = {}
  for split in sorted(plan.rows, reverse=True):  # train comes last: --filter_gold is about its rows
    targets |= {row_key(row.x): row.targets for row in plan.rows[split] if row.targets}
  return {
    key: {
      "row": key,
      "reasoning": outcome.reasoning,
      "answer": outcome.answer,
      "right": outcome.answer is not None and any(same(outcome.answer, target) for target in targets.get(key, ())),
      "votes": outcome.votes,
    }
    for key, outcome in found.items()
    if outcome.done
  }


def write_failed(path: pathlib.Path, plan: Plan, found: Mapping[str, Outcome]) -> int:
  """Lists every row that was asked about in vain, with the reason; returns how many."""
  lines = []
  for split, rows in plan.rows.items():
    for row in rows:
      outcome = found.get(row_key(row.x))
      if outcome and outcome.fault:
        record = {"split": split, "id": row.id, "line": row.line, "reason": outcome.fault}
        lines.append(json.dumps(record, ensure_ascii=False) + "\n")
  write_whole(path, "".join(lines))
  return len(lines)


def write_rows(folder: pathlib.Path, rows: Mapping[str, Sequence[Row]], found: Mapping[str, Outcome]) -> None:
  """Each split's rows as other programs take them: what the row is, and its reasoning where there is some."""
  for split, members in rows.items():
    lines = []
    for row in members:
      outcome = found.get(row_key(row.x), Outcome())
      record = {"id": row.id, "lang": row.lang, "group": row.group, "input": row.x, **row.fields}
      record |= {"target": row.targets[0] if len(row.targets) == 1 else list(row.targets)} if row.targets else {}
      record |= {"reasoning": outcome.reasoning if outcome.done else ""}
      lines.append(json.dumps(record, ensure_ascii=False) + "\n")
    write_whole(folder / f"{split}.jsonl", "".join(lines))


def counts(found: Mapping[str, Outcome]) -> collections.Counter[str]:
  """How many rows are done, failed (lenient ones among them) and left."""
  return collections.Counter(
    "done" if o.done else "left" if o.fault is None else "lenient" if o.lenient else "failed" for o in found.values()
  )
