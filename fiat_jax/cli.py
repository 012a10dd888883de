"""`fiat VERB …`: flags and gin in, one `main` a verb, exit codes out."""

from __future__ import annotations

import dataclasses
import importlib
import io
import os
import pathlib
import shlex
import sys
from collections.abc import Sequence

from fiat_jax import progress, prompts, signals
from fiat_jax.errors import UserError

VERBS = {
  "validate": ("what is in the rows, and what would go wrong", "fiat validate --train train.jsonl --test test.jsonl"),
  "annotate": (
    "ask a big model for its reasoning about every row, and keep it",
    "fiat annotate --data my.csv --beta openai:NAME --store stores/mine --dry_run",
  ),
  "train": (
    "tune a model with one recipe",
    "fiat train --train train.jsonl --validation validation.jsonl --recipes fiat --model_dir runs/mine",
  ),
  "evaluate": ("score a tuned model, or an untuned one", "fiat evaluate --model_dir runs/mine --test test.jsonl"),
  "predict": (
    "answer rows, labelled or not",
    "fiat predict --model_dir runs/mine --test rows.jsonl --output answers.jsonl",
  ),
  "compare": (
    "which recipe is best on these rows",
    "fiat compare --gin_file gin/tasks/mini_xqa.gin --recipes fine_tuning,fiat,beta --model_dir runs/compared",
  ),
  "export": (
    "a tuned model in the form that other programs load",
    "fiat export --model_dir runs/mine --format huggingface --output mine_merged",
  ),
  "prepare": ("a published set as rows", "fiat prepare xtreme_up"),
  "serve": (
    "a model, or a run's, behind OpenAI's protocol",
    "fiat serve --model_dir runs/mine --port 8000",
  ),
  "plan": (
    "whether a run fits on devices that are not here, and what it costs there",
    "fiat plan --topology v5e:4x4 --mesh fsdp=16 --model flan_t5_xxl --dtype bfloat16 --batch 128",
  ),
  "bench": ("how fast this machine trains and decodes", "fiat bench --gin_file gin/tasks/mini_xqa.gin --steps 4"),
}

OF_A_RUN = ("evaluate", "predict", "export", "serve")  # these start from the settings of the run in MODEL_DIR
SHARES = ("XLA_CLIENT_MEM_FRACTION", "XLA_PYTHON_CLIENT_MEM_FRACTION")  # of a GPU's memory; the second is its old name
MAKE_MODELS = ("train", "compare")  # these make a model that can be made where it is not to be had


def main(argv: Sequence[str] | None = None) -> int:
  """Runs one command; returns its exit code: 0 done, 2 the user can mend it, 130 or 143 after a signal, 1 ours."""
  arguments = list(sys.argv[1:] if argv is None else argv)
  for stream in (sys.stdout, sys.stderr):
    if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":  # whose encoding may lack what rows hold
      stream.reconfigure(errors="replace")
  try:
    return _run(arguments)
  except UserError as e:
    return _ended(2, str(e), f"error: {e}")
  except signals.Stopped as e:
    return _ended(e.code, f"stopped by {e}", f"stopped by {e}; the same command goes on from here")
  except BrokenPipeError:  # the reader of our output has gone: nothing is left to say
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return _ended(0, "the reader of its output has gone", "")
  except Exception as e:
    if not _several():
      raise
    import traceback

    return _ended(1, f"failed, and says why itself ({type(e).__name__})", traceback.format_exc().rstrip())


def _ended(code: int, fault: str, shown: str) -> int:
  """The exit code, once `shown` stands on stderr; one of several processes ends here, and the others hear why."""
  if _several():
    from fiat_jax import cluster

    cluster.leave(code, fault, shown)
  if shown:
    print(shown, file=sys.stderr)
  return code


def _several() -> bool:
  """Whether several processes work together at this command."""
  processes = sys.modules.get("fiat_jax.processes")
  return processes is not None and processes.count() > 1


def _run(arguments: list[str]) -> int:
  if not arguments or arguments[0] in ("-h", "--help", "help"):
    print(_overview())
    return 0
  verb, *rest = arguments
  if verb not in VERBS:
    raise UserError(f"the verb {verb!r} is {prompts.nearest(verb, VERBS)}")
  from fiat_jax import flags
  from fiat_jax.planning import chips

  if any(word in ("-h", "--help") for word in rest):
    print(flags.help_text(verb, *VERBS[verb]))
    return 0
  if verb == "prepare" and rest and not rest[0].startswith("--"):
    rest[:1] = ["--set", rest[0]]
  given = flags.parse(rest)
  progress.silence(given.quiet)
  if not any(name in os.environ for name in SHARES):  # else JAX takes 0.75
    os.environ[SHARES[0]] = str(chips.GPU_SHARE)
  from fiat_jax import configuration, resources, run_folder, shortage

  signals.listen()
  if verb in OF_A_RUN and "MODEL_DIR" in given.settings:
    given.gin_files.insert(0, run_folder.configuration_of(pathlib.Path(given.settings["MODEL_DIR"])))
  if verb == "predict" and "DATA" in given.settings and not {"TEST", "DEPLOYMENT"} & given.settings.keys():
    given.settings["TEST"] = given.settings.pop("DATA")  # all its rows; the run's own DATA stays what it was
  if "DEPLOYMENT" in given.settings:
    from fiat_jax.exports import deployment

    deployed = deployment.read(given.settings["DEPLOYMENT"])
    deployment.check_addresses(deployed, given.settings)
    given.bindings[:0] = deployment.bindings(deployed)
  configured = configuration.configure(given.gin_files, given.bindings, given.settings, given.search_paths)
  configured = dataclasses.replace(configured, command=shlex.join(["fiat", *arguments]))
  try:
    if verb in MAKE_MODELS and configured.made_source:
      configured = importlib.import_module("fiat_jax.verbs.made").settled(configured)
    importlib.import_module(f"fiat_jax.verbs.{verb}").main(configured)
  except (UserError, signals.Stopped, BrokenPipeError):
    raise
  except Exception as e:
    short = shortage.told(e, [configured.settings.model_dir, resources.cache_folder("")])
    if short is None:
      raise
    raise short from None
  return 0


def _overview() -> str:
  lines = ["usage: fiat VERB [--setting value …] [--gin_file FILE] [--gin.NAME=VALUE] [--quiet]", ""]
  lines += [f"  {verb:<10} {says}" for verb, (says, _) in VERBS.items()]
  lines += ["", "`fiat VERB --help` lists the settings. For example:", "", f"  {VERBS['compare'][1]}"]
  return "\n".join(lines)
