"""What a command is to ask: the inputs of all splits, each once, and the prompts about them.

Rows and requests lie on the disk: what is in memory of each is its key and its place, however long it is.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Iterator, Mapping, Sequence

from fiat_jax.configuration import Configuration
from fiat_jax.data.reasoned import row_key
from fiat_jax.data.rows import Row, read_rows
from fiat_jax.data.spilled import Spilled
from fiat_jax.errors import UserError
from fiat_jax.reasoning import exemplars
from fiat_jax.reasoning.desk import in_turn
from fiat_jax.reasoning.estimate import room_taken
from fiat_jax.reasoning.exemplars import Exemplars, Question
from fiat_jax.reasoning.prompt import ReasoningPrompt
from fiat_jax.reasoning.reasoner import Reasoner
from fiat_jax.reasoning.request import Asking, Request
from fiat_jax.reasoning.view import RECORDED
from fiat_jax.settings import Settings

CHUNK = 1024  # prompts in memory at a time


@dataclasses.dataclass(frozen=True, slots=True)
class Input:
  """Of an input, which several rows may have: the first row with a target, in its split, or the first; the groups."""

  split: str
  number: int
  labelled: bool
  lang: str
  groups: frozenset[str]


@dataclasses.dataclass(frozen=True)
class Plan:
  """Requests in the order in which they are to be asked, the samples of an input side by side.

  Attributes:
    rows: of each split.
    inputs: by the row's key (`row_key`).
    requests, keys: in step.
    first: the number of an input's first request, by the row's key.
    samples: requests about an input.
    shots: how many exemplars fit.
    candidates: the rows that these are chosen from; none where none are shown.
  """

  rows: Mapping[str, Sequence[Row]]
  inputs: Mapping[str, Input]
  requests: Sequence[Request]
  keys: Sequence[str]
  first: Mapping[str, int]
  samples: int
  shots: int
  candidates: Sequence[Row] = ()

  def keys_of(self, row: str) -> Sequence[str]:
    """The keys of the requests about an input."""
    return self.keys[self.first[row] : self.first[row] + self.samples]

  def row(self, row: str) -> Row:
    """The row that speaks for an input."""
    found = self.inputs[row]
    return self.rows[found.split][found.number]


def make(configuration: Configuration, reasoner: Reasoner) -> Plan:
  """Reads the rows and renders every prompt; nothing is asked.

  Raises:
    UserError: rows or exemplars cannot be read, or a prompt does not fit into the model's context.
  """
  settings = configuration.settings
  template = ReasoningPrompt.parse(settings.reasoning_instruction)
  rows = {split: read_rows(path, settings.layout, labelled=False) for split, path in settings.bare_files().items()}
  return of(settings, reasoner, rows, template, None if settings.beta == RECORDED else exemplars.load(settings))


def of(
  settings: Settings,
  reasoner: Reasoner,
  rows: Mapping[str, Sequence[Row]],
  template: ReasoningPrompt,
  shown: Exemplars | None,
) -> Plan:
  """The same about rows at hand, with this prompt and these candidates for exemplars.

  Raises:
    UserError: no row has a recording, where those are taken, or a prompt does not fit into the model's context.
  """
  recorded = settings.beta == RECORDED
  inputs = _inputs(rows, only_recorded=recorded)
  if recorded and not inputs:
    raise UserError(
      f"no row has reasoning in the column {settings.reasoning!r}, and no big model is named: give --beta "
      "openai:NAME, a model, or --reasoning COLUMN"
    )
  prompts = _Prompts(rows, inputs, template, shown)
  shots = 0 if recorded else _fitting(prompts, settings, reasoner)
  asking = Asking.of(settings, reasoner)
  samples = 1 if recorded else settings.samples
  keys: list[str] = []

  def requests() -> Iterator[Request]:
    for key in in_turn({key: found.lang for key, found in inputs.items()}):
      head, prompt = prompts.recorded(key) if recorded else prompts.of(key, shots)
      for sample in range(samples):
        lang = inputs[key].lang
        request = Request(asking=asking, prompt=prompt, sample=sample, row=key, lang=lang, head=head)
        keys.append(request.key)
        yield request

  def decoded(text: bytes) -> Request:
    prompt, sample, row, lang, head = json.loads(text)
    return Request(asking=asking, prompt=prompt, sample=sample, row=row, lang=lang, head=head)

  spilled = Spilled.write(requests(), _encoded, decoded)
  order = in_turn({key: found.lang for key, found in inputs.items()})
  first = {key: n * samples for n, key in enumerate(order)}
  candidates = shown.candidates if shown and shots else ()
  return Plan(rows, inputs, spilled, keys, first, samples, shots, candidates)


def _encoded(request: Request) -> bytes:
  return json.dumps([request.prompt, request.sample, request.row, request.lang, request.head]).encode()


def _inputs(rows: Mapping[str, Sequence[Row]], *, only_recorded: bool) -> dict[str, Input]:
  """Every input; or those that some row has reasoning for, with the first such row."""
  inputs: dict[str, Input] = {}
  for split, found in rows.items():
    for number, row in enumerate(found):
      if only_recorded and not row.reasoning:
        continue
      key, labelled = row_key(row.x), bool(row.targets)
      known = inputs.get(key)
      if known is None:
        inputs[key] = Input(split, number, labelled, row.lang, frozenset([row.group]))
      else:
        better = labelled and not known.labelled and not only_recorded
        inputs[key] = Input(
          split if better else known.split,
          number if better else known.number,
          known.labelled or better,
          known.lang,
          known.groups | {row.group},
        )
  return inputs


@dataclasses.dataclass(frozen=True)
class _Prompts:
  """Renders prompts from what lies on the disk."""

  rows: Mapping[str, Sequence[Row]]
  inputs: Mapping[str, Input]
  template: ReasoningPrompt
  shown: Exemplars | None

  def recorded(self, key: str) -> tuple[int, str]:
    """A recording stands for its prompt: another text is another request."""
    found = self.inputs[key]
    return 0, self.rows[found.split][found.number].reasoning or ""

  def of(self, key: str, count: int) -> tuple[int, str]:
    """Where x begins in the prompt, and the prompt."""
    found = self.inputs[key]
    question = Question(self.rows[found.split][found.number].x, found.lang, found.groups)
    shots = self.shown.of(question, count) if self.shown and count else ()
    return len(self.template.head(shots)), self.template.render(question.x, shots)


def _fitting(prompts: _Prompts, settings: Settings, reasoner: Reasoner) -> int:
  """How many exemplars fit into the longest prompt."""
  wanted, room = settings.shots if prompts.shown else 0, reasoner.context
  if room is None:
    return wanted
  longest, key = 0, ""
  for count in range(wanted, -1, -1):
    longest, key = _longest(prompts, count, reasoner)
    if longest + settings.reasoning_length <= room:
      return count
  found = prompts.inputs[key]
  about = "about " if reasoner.remote else ""
  raise UserError(
    f"the prompt about this row has {about}{longest} tokens without any exemplar; with --reasoning_length "
    f"{settings.reasoning_length} that is more than the {room} that the big model takes: shorten the row, or lower "
    "--reasoning_length",
    settings.file(found.split),
    prompts.rows[found.split][found.number].line,
  )


def _longest(prompts: _Prompts, count: int, reasoner: Reasoner) -> tuple[int, str]:
  """The most tokens of any prompt, and the row's key."""
  most = (0, "")
  left = iter(prompts.inputs)
  while keys := list(itertools.islice(left, CHUNK)):
    tokens = room_taken(reasoner, [prompts.of(key, count)[1] for key in keys])
    most = max(most, *zip(tokens, keys, strict=True))
  return most
