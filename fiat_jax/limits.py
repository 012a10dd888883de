"""What values settings may have, alone and together: looked at before anything is read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fiat_jax import prompts
from fiat_jax.errors import UserError

if TYPE_CHECKING:
  from fiat_jax.settings import Settings

POSITIVE = (
  *("batch", "source_length", "target_length", "slots", "reasoning_length", "samples", "concurrency"),
  *("beams", "max_tokens", "prompt_tokens", "join_seconds"),
)
NOT_NEGATIVE = (
  *("steps", "epochs", "validate_every", "microbatch_tokens", "neftune", "patience", "show", "shots", "temperature"),
  *("answer_temperature", "max_cost", "limit", "pilot", "requests_per_minute", "tokens_per_minute", "queue", "drain"),
  *("train_rows", "max_cost_a_day", "propose_instructions", "propose_reasoning_instructions"),
)
TRIED_NUMBERS = ("try_learning_rates", "try_epochs", "try_sizes", "try_shots")
TRIED = (*TRIED_NUMBERS, "try_shot_choices")  # of a comparison, and no part of what one run is
SHOWN = ("first", "random", "language")
CHOICES = {
  "objective": ("answer", "span_corruption", "chat"),
  "template": ("chat", "plain"),
  "beta_template": ("chat", "plain"),
  "weights": ("", "int8", "nf4"),
  "beta_weights": ("", "int8", "nf4"),
  "remat": ("none", "dots", "full"),
  "attention": ("auto", "plain", "fused"),
  "shot_choice": (*SHOWN, "nearest"),
  "beta_fails": ("error", "tau_alone"),
}


def check(settings: Settings) -> None:
  """Raises UserError at the first value that a setting cannot have."""
  _numbers(settings)
  _choices(settings)
  _texts(settings)
  _rows(settings)
  _answers(settings)


def _numbers(s: Settings) -> None:
  for name in POSITIVE:
    if getattr(s, name) < 1:
      raise UserError(f"--{name} {getattr(s, name)}: give 1 or more")
  for name in NOT_NEGATIVE:
    if getattr(s, name) < 0:
      raise UserError(f"--{name} {getattr(s, name)}: give 0 or more")
  for name in TRIED_NUMBERS:
    if any(value <= 0 for value in getattr(s, name)):
      raise UserError(f"--{name} {','.join(map(str, getattr(s, name)))}: give numbers above 0")
  if not 0 <= s.port < 65536:
    raise UserError(f"--port {s.port}: give one from 1 to 65535, or 0 for any that is free")
  if not 0 < s.search_share < 1:
    raise UserError(f"--search_share {s.search_share}: give a share above 0 and below 1")
  if not 0 <= s.reasoning_dropout < 1:
    raise UserError(f"--reasoning_dropout {s.reasoning_dropout}: give 0 or more and less than 1")
  if not 0 <= s.completeness <= 1 or s.timeout <= 0:
    raise UserError("--completeness is a share from 0 to 1, and --timeout more than 0 seconds")
  if any(seed < 0 for seed in (*s.seeds, s.split_seed)):
    raise UserError(f"--seeds {s.seeds}, --split_seed {s.split_seed}: give 0 or more")
  if len(set(s.seeds)) < len(s.seeds):
    raise UserError(f"--seeds {','.join(map(str, s.seeds))}: one stands there twice, and is the same run; give others")


def _choices(s: Settings) -> None:
  for name, choices in CHOICES.items():
    if (value := getattr(s, name)) in choices:
      continue
    named = [choice for choice in choices if choice]
    given = " or ".join(named) if len(named) == 2 else f"one of {', '.join(named)}"
    raise UserError(f"--{name} {value!r}: give {given}" + (", or leave it out" if "" in choices else ""))
  for choice in s.try_shot_choices:
    if choice not in SHOWN:
      raise UserError(f"--try_shot_choices {choice!r}: give some of {', '.join(SHOWN)} (icl_nearest shows the nearest)")


def _texts(s: Settings) -> None:
  for name in ("model_dir", "store"):
    if "://" in (place := getattr(s, name)):
      raise UserError(f"--{name} {place}: runs and stores lie in folders; mount the bucket, as launch/tpu_vm.sh does")
  if not all(s.stops):
    raise UserError("--stops holds an empty text, at which every reasoning would end: leave it out")
  for name in ("seeds", "metrics"):
    if not getattr(s, name):
      raise UserError(f"--{name} is empty: name at least one")


def check_input(s: Settings) -> None:
  """Raises UserError for an INPUT that gives every row the same x, or x its own label."""
  columns = prompts.fields(prompts.parse(s.input))
  if s.input and not columns:
    raise UserError(f"--input {s.input!r} names no column: write it in braces, as in '{{question}}'")
  if s.target in (columns or ["input"]):
    raise UserError(
      f"x would hold the column {s.target!r}, which is the --target: the label would stand in the prompt; name "
      "others with --input"
    )


def _rows(s: Settings) -> None:
  if not s.corrupts:
    check_input(s)
  if s.validation_share < 0 or s.test_share < 0 or s.validation_share + s.test_share >= 1:
    raise UserError(
      f"--validation_share {s.validation_share} and --test_share {s.test_share}: give shares from 0 that leave "
      "something to train on"
    )
  if s.folds and s.folds < 3:
    raise UserError(f"--folds {s.folds}: give 3 or more, a part to test on, one to validate on and one to learn from")
  if s.folds and (not s.data or s.train or s.validation or s.test):
    raise UserError("--folds deals the rows of --data: give that, and no --train, --validation or --test")
  if s.folds and s.sought:
    raise UserError(f"--folds with a search of prompts (--try_{s.sought[0]}s): search first, then give what was chosen")
  if s.corrupts and s.truncate:
    raise UserError(
      "--truncate with --objective span_corruption: texts go in pieces, nothing need be cut; leave it out"
    )
  if s.chats and s.truncate not in ("", "turns"):
    raise UserError(f"--truncate {s.truncate} with --objective chat: give turns, or leave it out")
  if s.filter_gold and not s.store:
    raise UserError("--filter_gold goes by a store's reasoning: give --store")


def _answers(s: Settings) -> None:
  if s.beams > 1 and (s.labels or s.corrupts):
    given = "--labels: labels are" if s.labels else "--objective span_corruption: given spans are"
    raise UserError(f"--beams {s.beams} with {given} scored, and nothing is generated; leave --beams out")
  if s.beams > 1 and s.answer_temperature:
    raise UserError(f"--beams {s.beams} with --answer_temperature: beam search draws nothing; leave one out")
  if s.samples > 1 and not s.temperature:
    raise UserError(f"--samples {s.samples} of a greedy model are all the same: give --temperature 0.7, say")
