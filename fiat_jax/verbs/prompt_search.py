"""The search of prompts (FIAT, Algorithm 1): wordings of I_β and I_τ, scored on validation rows that are kept for it.

What is bought is kept in the store and its ledger, so that a search which was stopped goes on, and one that is done is
gone through again for nothing: `fiat annotate` and `fiat compare` choose the same I_β. Nothing else is chosen on the
rows of the search, and nobody looks at them again.
"""

from __future__ import annotations

import json
import pathlib
import time
from collections.abc import Mapping, Sequence
from typing import Any

from fiat_jax import launcher, runtime
from fiat_jax.configuration import Configuration
from fiat_jax.errors import UserError
from fiat_jax.evaluation import metrics
from fiat_jax.progress import say
from fiat_jax.reasoning import candidates, reasoner
from fiat_jax.reasoning.answers import AnswerRule
from fiat_jax.reasoning.candidates import Sought
from fiat_jax.reasoning.view import RECORDED
from fiat_jax.run_folder import require_own
from fiat_jax.settings import SPLITS
from fiat_jax.verbs.budget import Budget, paid_on
from fiat_jax.verbs.prompt_trials import TRAIL, Trials

NONE: Mapping[str, Any] = {  # the settings of a search that has been, or is not wanted
  **dict.fromkeys(("try_instructions", "try_reasoning_instructions"), ""),
  **dict.fromkeys(("propose_instructions", "propose_reasoning_instructions"), 0),
}


def check(configuration: Configuration, names: Sequence[Sought]) -> None:
  """Refuses, before anything is asked, what cannot be searched for.

  Raises:
    UserError: a file of wordings is wrong, or rows, the big model, the store, the price are missing.
  """
  settings = configuration.settings
  launcher.check_alone(settings, "a search of prompts")
  metrics.check(settings.metrics, bool(settings.labels), settings.allow_code_execution)
  if "reasoning_instruction" in names:
    AnswerRule.parse(settings.answer)
  for name in names:
    candidates.check(getattr(settings, name), name)
    candidates.given(settings, name)
  files = settings.bare_files()
  proposing = [name for name in names if candidates.count(settings, name)]
  if "validation" not in files:
    raise UserError("prompts are searched on validation rows, and there are none: give --validation FILE, or --data")
  if proposing and "train" not in files:
    raise UserError(f"--propose_{proposing[0]}s: what is proposed goes by training rows: give --train FILE, or --data")
  if not proposing and "reasoning_instruction" not in names:
    return
  if settings.beta == RECORDED:
    raise UserError(
      f"--{'propose' if proposing else 'try'}_{(proposing or names)[0]}s asks the big model, and there is none to be "
      "asked: give --beta openai:NAME and --beta_url URL, or one that runs here"
    )
  if not settings.store:
    raise UserError("no place for the big model's answers in the search of prompts: give --store FOLDER")
  reasoner.require_price(settings)


def of_compare(configuration: Configuration) -> Configuration | None:
  """With the prompts that were found, and the other validation rows; None where those are not known yet (DRY_RUN).

  Raises:
    UserError: as `check`, BUDGET does not allow it, or answers are missing.
  """
  settings, folder = configuration.settings, pathlib.Path(configuration.settings.model_dir)
  names: Any = settings.sought
  if not names:
    return configuration
  check(configuration, names)
  require_own(folder)
  runtime.start(settings)
  started, budget, before = time.monotonic(), Budget.parse(settings.budget), paid_on(settings.store)
  trials = Trials.of(configuration, names, folder)
  money = trials.plan(budget)
  if settings.dry_run and not trials.done:
    if "reasoning_instruction" in names:
      say("what the recipes take is told once the big model's instruction is chosen, which --dry_run does not do")
      return None
    chosen = {}
  else:
    chosen = trials.run()
    money = paid_on(settings.store) - before
  files = settings.bare_files() | {"validation": trials.others}
  files = {split: files.get(split, "") for split in SPLITS}
  left = budget.minutes - (time.monotonic() - started) / 60, budget.money - money if money else budget.money
  text = ",".join(f"{max(0.0, amount):.6g}" for amount in left) if settings.budget else ""
  return configuration.replace(**NONE, **chosen, **files, data="", budget=text)


def of_annotate(configuration: Configuration) -> Configuration:
  """With the I_β that was found; with the one that is set where that is not known yet (DRY_RUN).

  Raises:
    UserError: as `check`, or MAX_COST is reached.
  """
  settings = configuration.settings
  check(configuration, ("reasoning_instruction",))
  trials = Trials.of(configuration, ("reasoning_instruction",), pathlib.Path(settings.store))
  trials.plan(Budget())
  if settings.dry_run and not trials.done:
    return configuration.replace(**NONE)
  return configuration.replace(**NONE, **trials.run())


def trail(folder: pathlib.Path) -> list[dict[str, Any]]:
  """What was tried in a run folder, in order; nothing where no prompts were searched."""
  file = folder / TRAIL
  return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()] if file.exists() else []
