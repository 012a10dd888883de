"""What one command works with, as plain values. `gin/runs/rows.gin` declares the same names in capitals."""

from __future__ import annotations

import dataclasses

from fiat_jax.data import splits
from fiat_jax.data.reasoned import Reasoned
from fiat_jax.data.rows import Layout, locate
from fiat_jax.errors import UserError
from fiat_jax.reasoning import view

SPLITS = ("train", "validation", "test")
OBJECTIVES = ("answer", "span_corruption", "chat")
LOSS_SCORES = ("loss", "perplexity", "token_accuracy")
OF_MACHINE = (
  "mesh",
  "topology",
  "coordinator",
  "processes",
  "process",
  "join_seconds",
  "remat",
  "attention",
)  # no part of what a run is
KINDS_OF_WEIGHTS = ("int8", "nf4")
REMATS, ATTENTIONS = ("none", "dots", "full"), ("auto", "plain", "fused")
SHOT_CHOICES = ("first", "random", "language", "nearest")
POSITIVE = ("batch", "source_length", "target_length", "slots", "reasoning_length", "samples", "concurrency")
POSITIVE += ("beams", "max_tokens", "prompt_tokens")
NOT_NEGATIVE = ("steps", "epochs", "validate_every", "microbatch_tokens", "neftune", "patience", "show", "shots")
NOT_NEGATIVE += (
  "temperature",
  "answer_temperature",
  "max_cost",
  "limit",
  "pilot",
  "requests_per_minute",
  "tokens_per_minute",
)
NOT_NEGATIVE += ("queue", "drain", "train_rows")
TRIED = ("try_learning_rates", "try_epochs", "try_sizes")  # of a comparison, and no part of what one run is


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
  """One field a macro; what each means stands in `gin/runs/rows.gin`."""

  data: str
  validation_share: float
  test_share: float
  split_seed: int
  folds: int
  train: str
  validation: str
  test: str
  target: str
  lang: str
  group: str
  id: str
  reasoning: str
  input: str
  instruction: str
  answer: str
  metrics: tuple[str, ...]
  labels: str | tuple[str, ...]
  model: str
  base_model: str
  template: str
  mesh: str
  topology: str
  coordinator: str
  processes: int
  process: int
  join_seconds: int
  dtype: str
  weights: str
  remat: str
  attention: str
  model_dir: str
  recipes: tuple[str, ...]
  objective: str
  lora_rank: int
  lora_alpha: float
  lora_scaling: str
  lora_dropout: float
  lora_targets: str
  prompt_tokens: int
  adapter: str
  train_rows: int
  try_learning_rates: tuple[float, ...]
  try_epochs: tuple[float, ...]
  try_sizes: tuple[int, ...]
  steps: int
  epochs: float
  batch: int
  microbatch_tokens: int
  optimizer: str
  learning_rate: float
  schedule: str
  warmup: float
  weight_decay: float
  clip: float
  neftune: float
  reasoning_dropout: float
  validate_every: int
  patience: int
  seeds: tuple[int, ...]
  source_length: int
  target_length: int
  truncate: str
  slots: int
  beams: int
  length_penalty: float
  answer_temperature: float
  allow_code_execution: bool
  judge: str
  judge_url: str
  judge_store: str
  output: str
  format: str
  suite: tuple[str, ...]
  show: int
  beta: str
  beta_url: str
  beta_template: str
  beta_weights: str
  beta_context: int
  store: str
  reasoning_instruction: str
  exemplars: str
  shots: int
  shot_choice: str
  reasoning_length: int
  stops: tuple[str, ...]
  temperature: float
  samples: int
  price: str
  max_cost: float
  concurrency: int
  requests_per_minute: int
  tokens_per_minute: int
  timeout: float
  batch_api: bool
  dry_run: bool
  budget: str
  pilot: int
  limit: int
  retry_failed: bool
  completeness: float
  filter_gold: bool
  export_to: str
  import_from: str
  set: str
  from_file: str
  sample: bool
  host: str
  port: int
  queue: int
  max_tokens: int
  drain: float

  def __post_init__(self):
    for name in POSITIVE:
      if getattr(self, name) < 1:
        raise UserError(f"--{name} {getattr(self, name)}: give 1 or more")
    for name in NOT_NEGATIVE:
      if getattr(self, name) < 0:
        raise UserError(f"--{name} {getattr(self, name)}: give 0 or more")
    if self.join_seconds < 1:
      raise UserError(f"--join_seconds {self.join_seconds}: give 1 or more")
    for name in TRIED:
      if any(value <= 0 for value in getattr(self, name)):
        raise UserError(f"--{name} {','.join(map(str, getattr(self, name)))}: give numbers above 0")
    if not 0 <= self.port < 65536:
      raise UserError(f"--port {self.port}: give one from 1 to 65535, or 0 for any that is free")
    if not 0 <= self.reasoning_dropout < 1:
      raise UserError(f"--reasoning_dropout {self.reasoning_dropout}: give 0 or more and less than 1")
    if self.validation_share < 0 or self.test_share < 0 or self.validation_share + self.test_share >= 1:
      raise UserError(
        f"--validation_share {self.validation_share} and --test_share {self.test_share}: give shares from 0 that leave "
        "something to train on"
      )
    if self.folds:
      self._check_folds()
    if self.objective not in OBJECTIVES:
      raise UserError(f"--objective {self.objective!r}: give one of {', '.join(OBJECTIVES)}")
    if self.corrupts and self.truncate:
      raise UserError(
        "--truncate with --objective span_corruption: texts go in pieces, nothing need be cut; leave it out"
      )
    if self.chats and self.truncate not in ("", "turns"):
      raise UserError(f"--truncate {self.truncate} with --objective chat: give turns, or leave it out")
    if self.beams > 1 and (self.labels or self.corrupts):
      given = "--labels: labels are" if self.labels else "--objective span_corruption: given spans are"
      raise UserError(f"--beams {self.beams} with {given} scored, and nothing is generated; leave --beams out")
    if self.beams > 1 and self.answer_temperature:
      raise UserError(f"--beams {self.beams} with --answer_temperature: beam search draws nothing; leave one out")
    for name in ("template", "beta_template"):
      if getattr(self, name) not in ("chat", "plain"):
        raise UserError(f"--{name} {getattr(self, name)!r}: give chat or plain")
    for name in ("weights", "beta_weights"):
      if (kind := getattr(self, name)) and kind not in KINDS_OF_WEIGHTS:
        raise UserError(f"--{name} {kind!r}: give {' or '.join(KINDS_OF_WEIGHTS)}, or leave it out")
    for name, known in (("remat", REMATS), ("attention", ATTENTIONS)):
      if getattr(self, name) not in known:
        raise UserError(f"--{name} {getattr(self, name)!r}: give one of {', '.join(known)}")
    if self.shot_choice not in SHOT_CHOICES:
      raise UserError(f"--shot_choice {self.shot_choice!r}: give one of {', '.join(SHOT_CHOICES)}")
    if not 0 <= self.completeness <= 1 or self.timeout <= 0:
      raise UserError("--completeness is a share from 0 to 1, and --timeout more than 0 seconds")
    if self.samples > 1 and not self.temperature:
      raise UserError(f"--samples {self.samples} of a greedy model are all the same: give --temperature 0.7, say")
    if self.filter_gold and not self.store:
      raise UserError("--filter_gold goes by a store's reasoning: give --store")
    if any(seed < 0 for seed in (*self.seeds, self.split_seed)):
      raise UserError(f"--seeds {self.seeds}, --split_seed {self.split_seed}: give 0 or more")
    if not all(self.stops):
      raise UserError("--stops holds an empty text, at which every reasoning would end: leave it out")
    if not self.seeds:
      raise UserError("--seeds is empty: name at least one")
    if not self.metrics:
      raise UserError("--metrics is empty: name at least one")

  def _check_folds(self) -> None:
    if self.folds < 3:
      raise UserError(
        f"--folds {self.folds}: give 3 or more, a part to test on, one to validate on and one to learn from"
      )
    if not self.data or self.train or self.validation or self.test:
      raise UserError("--folds deals the rows of --data: give that, and no --train, --validation or --test")

  @property
  def corrupts(self) -> bool:
    """Whether pretraining goes on over corrupted spans of x, and no answer is learned."""
    return self.objective == "span_corruption"

  @property
  def chats(self) -> bool:
    """Whether every assistant's turn of whole chats is learned."""
    return self.objective == "chat"

  @property
  def by_loss(self) -> bool:
    """Whether what is learned is judged by its loss, and nothing is generated."""
    return self.corrupts or self.chats

  @property
  def scores(self) -> tuple[str, ...]:
    """What is measured; the first chooses the checkpoint."""
    return LOSS_SCORES if self.by_loss else self.metrics

  @property
  def reasoning_stops(self) -> tuple[str, ...]:
    """Texts before which the big model's reasoning ends."""
    continued = self.beta_template == "plain" and self.exemplars and self.shots
    return self.stops or (("\n\n",) if continued else ())

  def answers(self, verb: str) -> None:
    """Raises UserError where the objective has no answers, with which a verb works."""
    if self.corrupts:
      raise UserError(
        f"--objective span_corruption: {verb} works with answers, and a model that fills in spans gives none: tune on "
        "(`fiat export` makes a --model of the run), or see its loss with `fiat evaluate`"
      )

  @property
  def layout(self) -> Layout:
    return Layout(
      target=self.target,
      lang=self.lang,
      group=self.group,
      id=self.id,
      reasoning=self.reasoning,
      input=self.input,
      labels=self.labels,
    )

  def file(self, split: str) -> str:
    """The file that a split's rows are read from, as messages name it."""
    return str(locate(self.bare_files()[split])[0])

  def files(self) -> dict[str, str]:
    """The paths of the rows of each split that there is, with the reasoning of `store` where that is given.

    Raises:
      UserError: `data` is given and every split beside it, or the store holds no reasoning that was asked for so.
    """
    bare = self.bare_files()
    if not self.store:
      return bare
    file = str(view.find(self))
    right = lambda split: self.filter_gold and split == "train"  # noqa: E731
    return {split: f"{path}[{Reasoned(file, right(split))}]" for split, path in bare.items()}

  def files_given(self) -> bool:
    """Whether any rows are named."""
    return bool(self.data or self.train or self.validation or self.test)

  def bare_files(self) -> dict[str, str]:
    """The same without the store's reasoning: a file that is given, or a split of `data`."""
    given = {split: path for split in SPLITS if (path := getattr(self, split))}
    if not self.data:
      return given
    dealt = splits.paths(self.data, given, self.validation_share, self.test_share, self.split_seed)
    if not dealt:
      raise UserError(f"nothing is left of --data to make: leave out one of --{', --'.join(given)}", self.data)
    paths = dealt | given
    return {split: paths[split] for split in SPLITS if split in paths}
