"""What one command works with, as plain values. `gin/runs/rows.gin` declares the same names in capitals."""

from __future__ import annotations

import dataclasses

from fiat_jax.data.rows import Layout
from fiat_jax.errors import UserError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
  """One field a macro; what each means stands in `gin/runs/rows.gin`."""

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
  dtype: str
  model_dir: str
  recipes: tuple[str, ...]
  lora_rank: int
  lora_alpha: float
  lora_scaling: str
  lora_dropout: float
  lora_targets: str
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
  slots: int
  output: str

  def __post_init__(self):
    for name in ("batch", "source_length", "target_length", "slots"):
      if getattr(self, name) < 1:
        raise UserError(f"--{name} {getattr(self, name)}: give 1 or more")
    for name in ("steps", "epochs", "validate_every", "microbatch_tokens", "neftune", "patience"):
      if getattr(self, name) < 0:
        raise UserError(f"--{name} {getattr(self, name)}: give 0 or more")
    if not 0 <= self.reasoning_dropout < 1:
      raise UserError(f"--reasoning_dropout {self.reasoning_dropout}: give 0 or more and less than 1")
    if not self.seeds:
      raise UserError("--seeds is empty: name at least one")
    if not self.metrics:
      raise UserError("--metrics is empty: name at least one")

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

  def files(self) -> dict[str, str]:
    """The split files that are given, by split."""
    return {split: path for split in ("train", "validation", "test") if (path := getattr(self, split))}
