"""What a command is to ask: the inputs of all splits, each once, and the prompts about them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from fiat_jax.configuration import Configuration
from fiat_jax.data.reasoned import row_key
from fiat_jax.data.rows import Row, read_rows
from fiat_jax.errors import UserError
from fiat_jax.reasoning import exemplars
from fiat_jax.reasoning.desk import in_turn
from fiat_jax.reasoning.exemplars import Exemplars, Question
from fiat_jax.reasoning.prompt import ReasoningPrompt
from fiat_jax.reasoning.reasoner import Reasoner
from fiat_jax.reasoning.request import Asking, Request
from fiat_jax.reasoning.view import RECORDED


@dataclasses.dataclass(frozen=True)
class Plan:
  """Requests in the order in which they are to be asked; those of one row are `of_row[key]`, by sample.

  `places` says where each row stands, for messages; `shots` is how many exemplars fit.
  """

  rows: Mapping[str, Sequence[Row]]
  requests: Sequence[Request]
  of_row: Mapping[str, Sequence[Request]]
  places: Mapping[str, tuple[str, int]]
  shots: int

  @property
  def prompts(self) -> list[str]:
    return [requests[0].prompt for requests in self.of_row.values()]


def make(configuration: Configuration, reasoner: Reasoner) -> Plan:
  """Reads the rows and renders every prompt; nothing is asked.

  Raises:
    UserError: rows or exemplars cannot be read, or a prompt does not fit into the model's context.
  """
  settings = configuration.settings
  template = ReasoningPrompt.parse(settings.reasoning_instruction)
  rows = {split: read_rows(path, settings.layout, labelled=False) for split, path in settings.bare_files().items()}
  asking = Asking(
    beta=reasoner.name,
    endpoint=reasoner.endpoint,
    template=settings.beta_template,
    length=settings.reasoning_length,
    temperature=settings.temperature,
  )
  places: dict[str, tuple[str, int]] = {}
  questions: dict[str, Question] = {}
  recordings: dict[str, str] = {}
  for split, found in rows.items():
    for row in found:
      key = row_key(row.x)
      places.setdefault(key, (settings.file(split), row.line))
      known = questions.get(key)
      questions[key] = Question(
        row.x, known.lang if known else row.lang, (known.groups if known else frozenset()) | {row.group}
      )
      if row.reasoning:
        recordings.setdefault(key, row.reasoning)
  if settings.beta == RECORDED:
    prompts, shots = {key: recordings[key] for key in questions if key in recordings}, 0
    if not prompts:
      raise UserError(
        f"no row has reasoning in the column {settings.reasoning!r}, and no big model is named: give --beta "
        "openai:NAME, a model, or --reasoning COLUMN"
      )
  else:
    shown = exemplars.load(settings)
    prompts, shots = _fitting(template, questions, shown, settings.shots, reasoner, settings.reasoning_length, places)
  samples = range(1 if settings.beta == RECORDED else settings.samples)
  of_row = {
    key: [Request(asking=asking, prompt=p, sample=n, row=key, lang=questions[key].lang) for n in samples]
    for key, p in prompts.items()
  }
  order = [r.row for r in in_turn([requests[0] for requests in of_row.values()])]
  return Plan(rows, [request for key in order for request in of_row[key]], of_row, places, shots)


def _fitting(
  template: ReasoningPrompt,
  questions: Mapping[str, Question],
  shown: Exemplars | None,
  wanted: int,
  reasoner: Reasoner,
  length: int,
  places: Mapping[str, tuple[str, int]],
) -> tuple[dict[str, str], int]:
  """Every row's prompt with as many exemplars as fit for the longest, and how many those are."""
  longest, key = 0, ""
  for count in range(wanted if shown else 0, -1, -1):
    prompts = {key: template.render(q.x, shown.of(q, count) if shown and count else ()) for key, q in questions.items()}
    if reasoner.context is None:
      return prompts, count
    tokens = reasoner.count(list(prompts.values()))
    longest, key = max(zip(tokens, prompts, strict=True))
    if longest + length <= reasoner.context:
      return prompts, count
  raise UserError(
    f"the prompt about this row has {longest} tokens without any exemplar; with --reasoning_length {length} that is "
    f"more than the {reasoner.context} that the big model takes: shorten the row, or lower --reasoning_length",
    *places[key],
  )
