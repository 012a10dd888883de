"""What came of the requests, row by row: the reasoning that counts, its answer, or why there is none."""

from __future__ import annotations

import collections
import dataclasses
import json
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from fiat_jax.data.reasoned import row_key
from fiat_jax.data.row_records import iter_records
from fiat_jax.reasoning.answers import AnswerRule, read_leniently, same, vote
from fiat_jax.reasoning.plan import Plan
from fiat_jax.reasoning.store import Store
from fiat_jax.settings import Settings
from fiat_jax.whole import writing


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
  """Of one input.

  Attributes:
    key: of the request whose text counts; empty where no text came.
    answer: what is read out of it.
    lenient: what may be the answer where the rule finds none (`read_leniently`); such a row has failed all the same.
    fault: why the text cannot be used, or that none came; empty where it can, None where samples are still to come.
    votes: samples that agree, samples that came.
  """

  key: str = ""
  answer: str | None = None
  lenient: str | None = None
  fault: str | None = None
  votes: tuple[int, int] = (0, 0)

  @property
  def done(self) -> bool:
    return self.fault == ""


def outcomes(plan: Plan, store: Store, rule: AnswerRule | None) -> dict[str, Outcome]:
  """By row's key. Without a rule, any text counts."""
  found = {}
  for row in plan.inputs:
    keys = plan.keys_of(row)
    said = [key for key in keys if store.answered(key)]
    if not all(key in store.kept or key in store.failures for key in keys):
      found[row] = Outcome()  # some of its samples are still to come
    elif said:
      found[row] = _of_texts(said, store, rule, plan.row(row).labels)
    else:
      faults = [store.kept[key].fault for key in keys if key in store.kept]
      faults += [store.failures[key] for key in keys if key in store.failures]
      found[row] = Outcome(fault=faults[0])
  return found


def _of_texts(keys: Sequence[str], store: Store, rule: AnswerRule | None, labels: Sequence[str]) -> Outcome:
  if rule is None:
    return Outcome(key=keys[0], fault="", votes=(1, len(keys)))
  texts = [store.text(key) for key in keys]
  answers = [rule.read(text) for text in texts]
  voted = vote(answers)
  if voted is None:
    found = [read_leniently(text, labels) for text in texts]
    number, _ = vote(found) or (0, 0)
    return Outcome(key=keys[number], lenient=found[number], fault="unparsed: --answer finds no answer in it")
  winner, count = voted
  return Outcome(key=keys[winner], answer=answers[winner], fault="", votes=(count, len(texts)))


def records(plan: Plan, store: Store, found: Mapping[str, Outcome]) -> Iterator[dict[str, Any]]:
  """The view's records of rows with reasoning; `right` by the target of the training row where one has the input."""
  for row, outcome in found.items():
    if outcome.done:
      targets = plan.row(row).targets if outcome.answer is not None else ()
      yield {
        "row": row,
        "reasoning": store.text(outcome.key),
        "answer": outcome.answer,
        "right": any(same(outcome.answer or "", target) for target in targets),
        "votes": outcome.votes,
        "keys": plan.keys_of(row),
      }


def write_failed(path: pathlib.Path, plan: Plan, found: Mapping[str, Outcome], unasked: str = "") -> None:
  """Lists every row that was asked about in vain, with the reason, and what may be its answer all the same.

  Args:
    unasked: why what is left has no answer; empty where that is still to come.
  """
  with writing(path) as file:
    for split, rows in plan.rows.items():
      for row in rows:
        outcome = found.get(row_key(row.x))
        if outcome and (reason := unasked if outcome.fault is None else outcome.fault):
          record = {"split": split, "id": row.id, "line": row.line, "reason": reason}
          record |= {} if outcome.lenient is None else {"lenient": outcome.lenient}
          file.write(json.dumps(record, ensure_ascii=False) + "\n")


def write_rows(
  folder: pathlib.Path, settings: Settings, plan: Plan, store: Store, found: Mapping[str, Outcome]
) -> None:
  """Each split's rows as other programs take them: all their columns, and the reasoning where there is some."""
  for split, path in settings.bare_files().items():
    with writing(folder / f"{split}.jsonl") as file:
      of_file = iter_records(path, settings.layout)
      for row in plan.rows[split]:
        columns = next((record for name, record in of_file if name == row.id), {})  # none: the file has changed since
        outcome = found.get(row_key(row.x), Outcome())
        record = {"id": row.id, "lang": row.lang, "group": row.group, "input": row.x}
        record |= {"target": row.targets[0] if len(row.targets) == 1 else list(row.targets)} if row.targets else {}
        record |= columns | {"reasoning": store.text(outcome.key) if outcome.done else ""}
        file.write(json.dumps(record, ensure_ascii=False) + "\n")


def counts(found: Mapping[str, Outcome]) -> collections.Counter[str]:
  """How many rows are done, failed and left; and how many have an answer (`strict`), or only a lenient one."""
  states = ("done" if o.done else "left" if o.fault is None else "failed" for o in found.values())
  strict, lenient = (sum(getattr(o, name) is not None for o in found.values()) for name in ("answer", "lenient"))
  return collections.Counter(states) + collections.Counter(strict=strict, lenient=lenient)
