"""`README.md` of an export: what it was made of, how good it is, how to load and check it; `prompts.json` beside it."""

from __future__ import annotations

import dataclasses
import json
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from fiat_jax import prompts
from fiat_jax.evaluation.report import SURE
from fiat_jax.evaluation.statistics import Scored, resample
from fiat_jax.evaluation.verdict import score_interval
from fiat_jax.exports.licences import of_rows
from fiat_jax.recipe import Recipe
from fiat_jax.settings import Settings
from fiat_jax.whole import read_records, read_result
from fiat_jax.workbench import Workbench

VLLM_RANK = 16  # the largest that vLLM takes unless told otherwise
VLLM_RANKS = (16, 32, 64, 128, 256, 320, 512)  # which it can be told


@dataclasses.dataclass(frozen=True, kw_only=True)
class Made:
  """What an export is: its `form` (`--format`), of which run and recipe, on which `base` (never a path here).

  Attributes:
    task: what PEFT calls the use of the base's family.
    quantized: how the base's weights were kept, where they were.
    proven: whether `parity.jsonl` is there.
    rank: the largest of an adapter's, where that is not LORA_RANK.
    patterned: modules of the adapter have ranks or alphas of their own.
    licence: the base's, where it names one.
  """

  form: str
  run: pathlib.Path
  recipe: Recipe
  base: str
  task: str
  quantized: str
  proven: bool
  rank: int = 0
  patterned: bool = False
  licence: str = ""


def write_prompts(folder: pathlib.Path, bench: Workbench, recipe: Recipe, x: str) -> None:
  """Writes how a prompt is put together: literal texts and the fields between them, turn marks of the chat included.

  Args:
    x: its template over columns, where there is one.
  """
  settings, tokenizer = bench.settings, bench.models.of(recipe).tokenizer
  before, after = tokenizer.chat_parts()
  written = {
    "prompt": _pieces((before, *bench.templates.of(recipe), after)),
    "x": x or "the row's columns but the target, the reasoning and what names it, a line each",
    **({"columns": list(dict.fromkeys(prompts.fields(prompts.parse(x))))} if x else {}),
    "add_special_tokens": not tokenizer.template_source,
    "max_new_tokens": settings.target_length,
  }
  (folder / "prompts.json").write_text(json.dumps(written, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _pieces(template: prompts.Template) -> list[str | dict[str, str]]:
  return [{"field": piece.name} if isinstance(piece, prompts.Field) else piece for piece in template if piece]


def write_card(folder: pathlib.Path, settings: Settings, made: Made) -> None:
  """Writes `README.md` with what Hugging Face's Hub reads in front of it."""
  library = {"peft": "peft", "huggingface": "transformers"}.get(made.form, "jax")
  front = {"base_model": made.base.partition("@")[0], "library_name": library, "tags": ["fiat_jax", made.recipe.title]}
  lines = ["---", *(f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in front.items()), "---", ""]
  lines += [f"# {made.recipe.title} on {made.base}", "", *_what(settings, made), ""]
  lines += ["## Results", "", *_results(settings, made.run), "", "## Use", "", *_use(settings, made), ""]
  (folder / "README.md").write_text("\n".join(lines), encoding="utf-8")


def _what(settings: Settings, made: Made) -> list[str]:
  recipe = made.recipe
  tuned = _tuned(settings, recipe)
  base = f"{made.base}: {made.licence}" if made.licence else f"{made.base}: see where it is from"
  licences = [base, *of_rows(settings.bare_files().values())]
  rows = {split: pathlib.PurePath(file).name for split, file in settings.bare_files().items()}
  lines = [
    f"- Recipe: {recipe.title}: {tuned}; instruction {_yes(recipe.instruction)}, reasoning {_yes(recipe.reasoning)}.",
    f"- Base: {made.base}{made.quantized}.",
    f"- Licences: {'; '.join(licences)}. The base's holds for this, too, and so may those of the rows.",
    "- Rows: " + ", ".join(f"{split} `{name}`" for split, name in rows.items()) + _grouped(settings) + ".",
  ]
  if recipe.reasoning:
    beta = "recorded answers" if settings.beta in ("", "recorded") else f"`{_name(settings.beta)}`"
    lines.append(f"- Reasoning: {beta}. Without it the model is not what was measured here.")
  return lines


def _tuned(settings: Settings, recipe: Recipe) -> str:
  """What was trained, in words."""
  if recipe.adapter == "prompt":
    return f"a soft prompt of {settings.prompt_tokens} places, which cannot be merged into weights"
  if recipe.adapter == "ia3":
    return "IA3"
  if not recipe.adapts:
    return "all weights"
  begun = f", from {_adapters(settings.adapter)}, whose ranks it has" if settings.adapter else ""
  name = {"rslora": "rsLoRA", "dora": "DoRA"}.get(recipe.adapter, "LoRA")
  return f"{name}, rank {settings.lora_rank}, alpha {settings.lora_alpha:g}{begun}"


def _adapters(given: str) -> str:
  """The adapters that training began with: no path of this machine."""
  return " and ".join(f"`{pathlib.PurePath(part.strip()).name}`" for part in given.split(","))


def _grouped(settings: Settings) -> str:
  return f"; rows of one `{settings.group}` belong together" if settings.group else ""


def _name(path: str) -> str:
  """A model as it may be named elsewhere: no path of this machine."""
  return pathlib.PurePath(path).name if pathlib.Path(path).expanduser().exists() else path


def _yes(there: bool) -> str:
  return "yes" if there else "no"


def _results(settings: Settings, run: pathlib.Path) -> list[str]:
  """A line for each split that the run was judged on, the first metric with its interval over groups."""
  file = run / "results.json"
  result: Mapping[str, Any] = read_result(file) if file.exists() else {}
  lines = []
  for split in ("validation", "test"):
    if "overall" not in (found := result.get(split, {})):
      continue
    scores = ", ".join(f"{name} {value:.1f}" for name, value in found["overall"].items())
    lines.append(f"- {split}, {found['rows']} rows: {scores}{_interval(settings, run, split)}.")
  return lines or ["The run holds no results."]


def _interval(settings: Settings, run: pathlib.Path, split: str) -> str:
  file, metric = run / "predictions" / f"{split}.jsonl", settings.scores[0]
  if not file.exists():
    return ""
  answers = read_records(file)
  if not all(metric in answer for answer in answers):
    return ""
  scores = np.array([[answer[metric] for answer in answers]])
  langs, groups = ([answer[name] for answer in answers] for name in ("lang", "group"))
  low, high = score_interval(resample(Scored(scores={"run": scores}, langs=langs, groups=groups)), "run")
  return f" ({SURE} of {metric}, rows of a group drawn together: {low:.1f} to {high:.1f})"


def _vllm(settings: Settings, made: Made) -> list[str]:
  """The command that serves an adapter, or why there is none."""
  if made.task != "CAUSAL_LM":
    return ["", "vLLM serves no encoder–decoders: `fiat serve --deployment FOLDER` does."]
  if made.recipe.adapter not in ("lora", "rslora"):
    merged = "" if made.recipe.adapter == "prompt" else ", and what `fiat export --format huggingface` merges"
    return ["", f"vLLM takes LoRA and rsLoRA alone{merged}."]
  if made.patterned:
    return ["", "vLLM does not read the adapter's rank_pattern and alpha_pattern: merge it, --format huggingface."]
  rank = made.rank or settings.lora_rank
  most = f"--max-lora-rank {next(n for n in VLLM_RANKS if n >= rank)} " if VLLM_RANK < rank <= VLLM_RANKS[-1] else ""
  if rank > VLLM_RANKS[-1]:
    return ["", f"vLLM takes ranks up to {VLLM_RANKS[-1]}, and this has {rank}: merge it, --format huggingface."]
  name, _, revision = made.base.partition("@")
  base = (f"{name} --revision {revision}" if revision else name) if _on_hub(made.base) else "BASE"
  return [f"    vllm serve {base} --enable-lora {most}--lora-modules tuned=FOLDER"]


def _on_hub(base: str) -> bool:
  return "/" in base and "://" not in base


def _use(settings: Settings, made: Made) -> list[str]:
  lines = ["`prompts.json` says how a prompt is put together; `x` is the input."]
  if made.form == "peft":
    lines += [
      "",
      "    PeftModel.from_pretrained(model, FOLDER)    # model: the base, loaded by transformers",
    ]
    lines += _vllm(settings, made)
  if made.form == "huggingface" and made.task == "CAUSAL_LM":
    lines += ["", "    vllm serve FOLDER"]
  if made.form == "orbax":
    lines += ["", '    python restore.py    # with orbax.checkpoint alone: `restore("model")` gives the arrays']
  if made.form in ("peft", "huggingface"):
    lines += [
      "",
      "`deployment.json` answers rows as the run did: `fiat predict` or `fiat serve`, with `--deployment FOLDER`.",
    ]
  if made.proven and made.form in ("peft", "huggingface"):
    base, tools = ("BASE", "transformers and peft") if made.form == "peft" else ("", "transformers")
    base = f"[{base}]" if base and _on_hub(made.base) else base
    named = f" BASE is the path of {made.base} on your machine." if base == "BASE" else ""
    lines += [
      "",
      f"`parity.jsonl` holds rows with prompt, ids, greedy answer and log-probabilities. With {tools} alone, "
      f"`python check.py {base}".rstrip()
      + f"` asks for them again.{named}",
    ]
  return lines
