"""The folder of one run: its configuration, kept so that nothing else is ever continued there."""

from __future__ import annotations

import contextlib
import pathlib
import re
from collections.abc import Iterator, Mapping

from fiat_jax import processes
from fiat_jax.errors import UserError
from fiat_jax.run_lock import locked
from fiat_jax.shortage import disk_full
from fiat_jax.whole import write_whole

FREE = ("MODEL_DIR", "OUTPUT", "FORMAT", "SHOW", "SLOTS")  # may differ when a run goes on
FREE += ("PRICE", "MAX_COST", "CONCURRENCY", "REQUESTS_PER_MINUTE", "TOKENS_PER_MINUTE", "TIMEOUT", "BATCH_API")
FREE += ("HOST", "PORT", "QUEUE", "MAX_TOKENS", "DRAIN")
FREE += ("DEPLOYMENT", "BETA_FAILS", "MAX_COST_A_DAY", "TAU_URL")
FREE += ("TRY_LEARNING_RATES", "TRY_EPOCHS", "TRY_SIZES")  # what was tried is kept, each in a folder of its own
FREE += ("BUDGET", "DRY_RUN", "PILOT", "LIMIT", "RETRY_FAILED", "EXPORT_TO", "IMPORT_FROM")

SEARCH = "prompt_search"  # what the names of the files begin with that a search of prompts leaves


def claim(folder: pathlib.Path, text: str, fingerprints: Mapping[str, str], *, widens: bool = False) -> None:
  """Makes the folder and writes `config.gin`, or checks that the one there says the same.

  Args:
    text: the configuration as gin.
    fingerprints: of the model and the rows; kept as comments.
    widens: another choice of recipes is no other configuration (a comparison; each of its runs has its own folder).

  Raises:
    UserError: the folder belongs to another configuration (the differences are named), or is no run folder.
  """
  wanted = "".join(f"# {name}: {value}\n" for name, value in fingerprints.items()) + text
  file = folder / "config.gin"
  require_own(folder)
  if not file.exists():
    try:
      write_whole(file, wanted)
    except OSError as e:
      if disk_full(e):
        raise
      raise UserError(f"cannot be made ({e.strerror}): give another --model_dir", folder) from None
    return
  old, new = _values(file.read_text(encoding="utf-8")), _values(wanted)
  free = lambda name: name in FREE or (widens and _names_recipes(name, old, new))  # noqa: E731
  changed = [name for name in {**old, **new} if not free(name) and old.get(name) != new.get(name)]
  if changed:
    shown = "; ".join(
      f"{name} was {old.get(name, 'absent')[:60]}, now {new.get(name, 'absent')[:60]}" for name in changed[:3]
    )
    raise UserError(f"holds a run of another configuration ({shown}): give a new --model_dir", folder)


def require_own(folder: pathlib.Path) -> None:
  """Raises UserError for a folder with something in it that is no run, nor a search of prompts that goes before one."""
  if (folder / "config.gin").exists() or not folder.exists():
    return
  if not folder.is_dir() or any(not path.name.startswith(SEARCH) for path in folder.iterdir()):
    raise UserError("is not empty and holds no config.gin: give a new folder as --model_dir", folder)


def configuration_of(folder: pathlib.Path) -> str:
  """The gin file of a run. Raises UserError where the folder holds none."""
  if not (folder / "config.gin").exists():
    raise UserError("there is no run: config.gin is missing. Give the folder that `fiat train` wrote", folder)
  return str(folder / "config.gin")


def check_base(folder: pathlib.Path, fingerprints: Mapping[str, str]) -> None:
  """Refuses a model that is not the one that the run in `folder` was trained on.

  Raises:
    UserError: the fingerprint of its weights is another.
  """
  file = folder / "config.gin"
  recorded = _values(file.read_text(encoding="utf-8")) if file.exists() else {}
  for setting, fingerprint in fingerprints.items():
    if recorded.get(setting, fingerprint) != fingerprint:
      raise UserError(f"was trained on another model than --{setting} names now: its weights differ", folder)


@contextlib.contextmanager
def occupied(
  folder: pathlib.Path, text: str, fingerprints: Mapping[str, str], *, widens: bool = False
) -> Iterator[None]:
  """Claims the folder and holds it for this process alone, or for those that work together.

  Raises:
    UserError: as `claim`, another process works in it, or not all that work together see it.
  """
  with contextlib.ExitStack() as held:

    def take() -> None:
      claim(folder, text, fingerprints, widens=widens)
      held.enter_context(locked(folder))
      claim(folder, text, fingerprints, widens=widens)  # another process may have claimed it in between

    processes.by_first(take)
    processes.check_shared(folder)
    yield


def _names_recipes(name: str, old: Mapping[str, str], new: Mapping[str, str]) -> bool:
  # `model`: a comparison may have begun with recipes that need none
  new_or_gone = name not in old or name not in new
  of_base = name == "BASE_MODEL" and "''" in (old.get(name), new.get(name))
  return name == "RECIPES" or of_base or (new_or_gone and ("/Recipe." in name or name in ("model", "base_model")))


def _values(text: str) -> dict[str, str]:
  return dict(re.findall(r"^(?:# )?([\w/.]+)(?: =|:) (.*)$", text, flags=re.MULTILINE))
