"""The folder of one run: its configuration, kept so that nothing else is ever continued there."""

from __future__ import annotations

import ast
import contextlib
import pathlib
import re
from collections.abc import Iterator, Mapping

from fiat_jax import processes, run_lock
from fiat_jax.errors import UserError
from fiat_jax.reasoning.view import RECORDED
from fiat_jax.run_lock import locked
from fiat_jax.shortage import disk_full
from fiat_jax.whole import write_whole

FREE = ("MODEL_DIR", "OUTPUT", "FORMAT", "SHOW", "SLOTS")  # may differ when a run goes on
FREE += ("PRICE", "MAX_COST", "CONCURRENCY", "REQUESTS_PER_MINUTE", "TOKENS_PER_MINUTE", "TIMEOUT", "BATCH_API")
FREE += ("HOST", "PORT", "QUEUE", "MAX_TOKENS", "DRAIN")
FREE += ("DEPLOYMENT", "BETA_FAILS", "MAX_COST_A_DAY", "TAU_URL", "TAU_NAME")
FREE += ("TRY_LEARNING_RATES", "TRY_EPOCHS", "TRY_SIZES")  # what was tried is kept, each in a folder of its own
FREE += ("TRY_SHOTS", "TRY_SHOT_CHOICES")  # and answers in the store
FREE += ("BUDGET", "DRY_RUN", "PILOT", "LIMIT", "RETRY_FAILED", "EXPORT_TO", "IMPORT_FROM")

OF_BETA = ("BETA", "BETA_URL", "BETA_TEMPLATE", "BETA_WEIGHTS", "BETA_CONTEXT")  # may come where no big model was named
READS = re.compile(r"\w+/Recipe\.(reasoning|distils|answer_of_beta)")  # with these a recipe reads reasoning

SPLITS = "splits.json"
SEARCH = "prompt_search"  # what the names of the files begin with that a search of prompts leaves


def claim(
  folder: pathlib.Path,
  text: str,
  fingerprints: Mapping[str, str],
  *,
  widens: bool = False,
  bare: Mapping[str, str] | None = None,
  held: bool = True,
) -> None:
  """Makes the folder and writes `config.gin`, or checks that the one there says the same, where anything was done.

  Args:
    text: the configuration as gin.
    fingerprints: of the model and the rows; kept as comments.
    widens: another choice of recipes, or more seeds behind the first, is no other configuration (a comparison; each of
      its runs has its own folder).
    bare: fingerprints of the rows without a store's reasoning, where STORE may come because none was read before.
    held: nobody else works in the folder, so that what was only claimed there may be written anew.

  Raises:
    UserError: the folder belongs to another configuration (the differences are named), or is no run folder.
  """
  wanted = "".join(f"# {name}: {value}\n" for name, value in fingerprints.items()) + text
  file = folder / "config.gin"
  require_own(folder)
  begun = file.exists() and _begun(folder)
  if not file.exists() or (held and not begun):
    try:
      (folder / SPLITS).unlink(missing_ok=True)
      write_whole(file, wanted)
    except OSError as e:
      if disk_full(e):
        raise
      raise UserError(f"cannot be made ({e.strerror}): give another --model_dir", folder) from None
    return
  if not begun:
    return
  old, new = recorded(folder), _values(wanted)
  if bare is not None and _store_comes(old, new):
    new |= {"STORE": old["STORE"], **bare}
  free = lambda name: name in FREE or _adds(name, old, new, widens)  # noqa: E731
  changed = [name for name in {**old, **new} if not free(name) and old.get(name) != new.get(name)]
  if changed:
    changed.sort(key=str.islower)  # fingerprints after the settings that they follow from
    shown = "; ".join(
      f"{name} was {old.get(name, 'absent')[:60]}, now {new.get(name, 'absent')[:60]}" for name in changed[:3]
    )
    raise UserError(f"holds a run of another configuration ({shown}): give a new --model_dir", folder)


def _begun(folder: pathlib.Path) -> bool:
  """Whether anything stands in a run's folder but what is written before it does anything (of a --dry_run, say)."""
  return any(path.name not in ("config.gin", SPLITS, run_lock.NAME) for path in folder.iterdir())


def widen(folder: pathlib.Path, text: str, fingerprints: Mapping[str, str]) -> None:
  """Writes down what a comparison's configuration, which was claimed, has more than before: none of it goes again."""
  file = folder / "config.gin"
  old, new = recorded(folder), _values(text)
  more = {name: new[name] for name in ("SEEDS", "STORE", *OF_BETA) if name in old and old[name] != new.get(name, "")}
  more |= fingerprints if "STORE" in more else {}
  lines = file.read_text(encoding="utf-8").splitlines()
  for n, line in enumerate(lines):
    name, sign, _ = re.split(r"( =|:) ", line.removeprefix("# "), maxsplit=1) if _values(line) else ("", "", "")
    if name in more:
      lines[n] = f"{'# ' * line.startswith('# ')}{name}{sign} {more[name]}"
  lines += [f"{name} = {value}" for name, value in new.items() if "/Recipe." in name and name not in old]
  if (whole := "\n".join(lines) + "\n") != file.read_text(encoding="utf-8"):
    write_whole(file, whole)


def call(folder: pathlib.Path, place: pathlib.Path) -> None:
  """Has the configuration of a run that is moved or copied say where it will lie."""
  text = _text(folder)
  said = re.sub(r"^MODEL_DIR = .*$", lambda _: f"MODEL_DIR = {str(place)!r}", text, flags=re.MULTILINE)
  write_whole(folder / "config.gin", said)


def recorded(folder: pathlib.Path) -> dict[str, str]:
  """Settings and fingerprints of the run in the folder, as they are written; empty where it holds none."""
  return _values(_text(folder)) if (folder / "config.gin").exists() else {}


def _text(folder: pathlib.Path) -> str:
  file = folder / "config.gin"
  try:
    return file.read_text(encoding="utf-8")
  except (OSError, UnicodeDecodeError) as e:
    reason = e.strerror if isinstance(e, OSError) else "it is not UTF-8"
    message = f"cannot be read ({reason}): the run goes by it; put it back as it was, or give a new --model_dir"
    raise UserError(message, file) from None


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
  _text(folder)  # gin's own message names no file
  return str(folder / "config.gin")


def check_base(folder: pathlib.Path, fingerprints: Mapping[str, str]) -> None:
  """Refuses a model that is not the one that the run in `folder` was trained on.

  Raises:
    UserError: the fingerprint of its weights is another.
  """
  found = recorded(folder)
  for setting, fingerprint in fingerprints.items():
    if found.get(setting, fingerprint) != fingerprint:
      raise UserError(f"was trained on another model than --{setting} names now: its weights differ", folder)


@contextlib.contextmanager
def occupied(
  folder: pathlib.Path,
  text: str,
  fingerprints: Mapping[str, str],
  *,
  widens: bool = False,
  bare: Mapping[str, str] | None = None,
) -> Iterator[None]:
  """Claims the folder and holds it for this process alone, or for those that work together.

  Raises:
    UserError: as `claim`, another process works in it, or not all that work together see it.
  """
  with contextlib.ExitStack() as held:

    def take() -> None:
      claim(folder, text, fingerprints, widens=widens, bare=bare, held=False)
      held.enter_context(locked(folder))
      claim(folder, text, fingerprints, widens=widens, bare=bare)  # another process may have claimed it in between

    processes.by_first(take)
    processes.check_shared(folder)
    yield


def _adds(name: str, old: Mapping[str, str], new: Mapping[str, str], widens: bool) -> bool:
  """Whether a difference leaves what is done as true as it was."""
  if name in OF_BETA:
    return old.get("BETA") == repr(RECORDED)
  if widens and name == "SEEDS" and name in old and name in new:
    before, now = (ast.literal_eval(values[name]) for values in (old, new))
    return before[0] == now[0] and set(before) <= set(now)
  return widens and _names_recipes(name, old, new)


def _store_comes(old: Mapping[str, str], new: Mapping[str, str]) -> bool:
  """Whether there was no STORE and is one now, the rows are the same, and no recipe has read reasoning without it."""
  read = any(READS.fullmatch(name) and value == "True" for name, value in old.items())
  return old.get("STORE") == "''" != new.get("STORE") and new.get("FILTER_GOLD") == "False" and not read


def _names_recipes(name: str, old: Mapping[str, str], new: Mapping[str, str]) -> bool:
  # `model`: a comparison may have begun with recipes that need none
  new_or_gone = name not in old or name not in new
  of_base = name == "BASE_MODEL" and "''" in (old.get(name), new.get(name))
  return name == "RECIPES" or of_base or (new_or_gone and ("/Recipe." in name or name in ("model", "base_model")))


def _values(text: str) -> dict[str, str]:
  return dict(re.findall(r"^(?:# )?([\w/.]+)(?: =|:) (.*)$", text, flags=re.MULTILINE))
