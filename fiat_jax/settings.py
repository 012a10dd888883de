"""What one command works with, as plain values. `gin/runs/rows.gin` declares the same names in capitals."""

from __future__ import annotations

import dataclasses

from fiat_jax import limits
from fiat_jax.data import splits
from fiat_jax.data.reasoned import Reasoned
from fiat_jax.data.rows import Layout, locate
from fiat_jax.errors import UserError
from fiat_jax.reasoning import view

SPLITS = ("train", "validation", "test")
LOSS_SCORES = ("loss", "perplexity", "token_accuracy")
OF_MACHINE = (  # no part of what a run is
  *("mesh", "topology", "coordinator", "processes", "process", "join_seconds", "remat", "attention"),
)
OF_COMMAND = ("dry_run", "limit", "pilot", "retry_failed", "export_to", "import_from")  # nor of what runs again


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
  published: str
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
  try_shots: tuple[int, ...]
  try_shot_choices: tuple[str, ...]
  try_instructions: str
  try_reasoning_instructions: str
  propose_instructions: int
  propose_reasoning_instructions: int
  search_share: float
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
  incomplete: bool
  deployment: str
  beta_fails: str
  max_cost_a_day: float
  tau_url: str
  tau_name: str
  host: str
  port: int
  queue: int
  max_tokens: int
  drain: float

  def __post_init__(self):
    limits.check(self)

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

  @property
  def sought(self) -> tuple[str, ...]:
    """Of the two instructions those, by the names of their settings, that are to be searched for."""
    names = ("reasoning_instruction", "instruction")
    return tuple(name for name in names if getattr(self, f"try_{name}s") or getattr(self, f"propose_{name}s"))

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
