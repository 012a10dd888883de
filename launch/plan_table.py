"""The README's table of plans: Flan-T5 from small to xxl on slices of every TPU, each LoRA update compiled by libtpu.

PYTHONPATH=~/libtpu .venv/bin/python launch/plan_table.py plans.jsonl            # minutes a row; goes on where it was
PYTHONPATH=~/libtpu .venv/bin/python launch/plan_table.py --devices plans.jsonl  # xxl over ever more chips
.venv/bin/python launch/plan_table.py --draw FILE.png plans.jsonl                # the latter as a picture
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import subprocess
import sys
from typing import Any

ROOT = pathlib.Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))
MODELS = {"flan_t5_xxl": 16, "flan_t5_xl": 4, "flan_t5_large": 1, "flan_t5_base": 1, "flan_t5_small": 1}  # and chips
SHAPES = {2: {1: "1x1", 4: "2x2", 8: "2x4", 16: "4x4", 32: "4x8", 64: "8x8"},
          3: {1: "1x1x1", 4: "2x2x1", 8: "2x2x2", 16: "2x2x4"}}  # fmt: skip
KINDS = {"v5e": 2, "v6e": 2, "v4": 3, "v5p": 3}  # and axes
RUN = "--dtype bfloat16 --batch 128 --source_length 512 --target_length 128 --remat full"
SWEEP = ("flan_t5_xxl", "v5e", (4, 8, 16, 32, 64))
TRIALS = 3


def cell(model: str, topology: str) -> dict[str, Any]:
  """The training step alone, its microbatch halved until it fits."""
  from fiat_jax.planning import child

  os.environ |= child.COMPILES
  import importlib.metadata

  import jax

  from fiat_jax import configuration, flags, sharding
  from fiat_jax.models import catalogue
  from fiat_jax.models.family import module_for
  from fiat_jax.planning import chips, report
  from fiat_jax.planning.records import Asked
  from fiat_jax.planning.steps import Plan
  from fiat_jax.verbs.train import optimizer_config
  from fiat_jax.workbench import lora_config

  target = chips.parse(topology)
  given = flags.parse(["--model", model, "--mesh", f"fsdp={target.devices}", *RUN.split()])
  configured = configuration.configure(given.gin_files, given.bindings, given.settings, given.search_paths)
  s, config = configured.settings, catalogue.MODELS[model].config
  lora = lora_config(s, configured.recipe("fiat"))
  asked = Asked(target, model, config, s, "adapter", lora)
  sizes = sharding.parse(s.mesh, target.devices)
  with jax.set_mesh(child._mesh(target, sizes, True)):
    made = Plan(module_for(config, model, s.dtype, lora), s, optimizer_config(s), full=False)
    work = child._Work(made, asked, True)
    rows = min(-(-s.batch // target.devices), work._by_estimate())
    for _ in range(TRIALS):
      found = work.step("train", made.train(rows), rows)
      if found.peak <= work.memory or rows == 1:
        break
      rows //= 2
  best = report.times(found, target.chip)
  return {
    "model": model,
    "topology": topology,
    "chips": target.devices,
    "compiler": importlib.metadata.version("libtpu"),
    "rows": found.rows,
    "microbatches": found.microbatches,
    "held": sum(found.held.values()) / chips.GIB,
    "peak": found.peak / chips.GIB,
    "memory": work.memory / chips.GIB,
    "of_least": found.flops / found.least,
    "seconds": best.longest if best else None,
    "bound": best.bound if best else "",
    "times": best,
    "tokens": found.tokens,
    "largest_collective": max(found.collectives.values(), default=0) / 1e9,
  }


def wanted(devices: bool) -> list[tuple[str, str]]:
  if devices:
    model, kind, counts = SWEEP
    return [(model, f"{kind}:{SHAPES[2][count]}") for count in counts]
  return [(model, f"{kind}:{SHAPES[axes][n]}") for model, n in MODELS.items() for kind, axes in KINDS.items()]


def table(cells: dict[tuple[str, str], dict[str, Any]], places: list[tuple[str, str]]) -> str:
  lines = [
    "| model, LoRA | slice | GiB held / at the worst / there | rows a part | an update at best | bound by | FLOPs |"
  ]
  lines.append("| --- | --- | ---: | ---: | ---: | --- | ---: |")
  for c in (cells[place] for place in places if place in cells):
    fits = f"{c['held']:.2f} / {c['peak']:.2f} / {c['memory']:.2f}" + (
      "" if c["peak"] <= c["memory"] else ", does not fit"
    )
    time = f"{c['seconds']:.3g} s" if c["seconds"] else ""
    of = f"{c['of_least']:.2f}" if c["seconds"] else ""
    lines.append(f"| {c['model']} | {c['topology']} | {fits} | {c['rows']} | {time} | {c['bound']} | {of} |")
  return "\n".join(lines)


def draw(cells: dict[tuple[str, str], dict[str, Any]], file: str) -> None:
  """Seconds an update against chips, measured on nothing: both axes logarithmic, with what each limit alone allows."""
  import matplotlib

  matplotlib.use("Agg")
  from matplotlib import pyplot

  found = [c for place in wanted(devices=True) if (c := cells.get(place)) and c["seconds"]]
  count = [c["chips"] for c in found]
  figure, axes = pyplot.subplots(figsize=(5.2, 3.4), dpi=110)
  for number, name in enumerate(("products", "memory", "links between chips")):
    axes.plot(count, [c["times"][number] for c in found], marker=".", linewidth=1, label=name)
  axes.plot(count, [c["seconds"] for c in found], color="black", linewidth=2, label="the longest of them", zorder=0)
  axes.set(xscale="log", yscale="log", xlabel=f"chips ({SWEEP[1]})", ylabel="seconds an update, at best")
  axes.set_xticks(count, [str(n) for n in count])
  axes.minorticks_off()
  axes.set_title(f"Flan-T5 xxl, LoRA, 128 × (512 + 128), libtpu {found[0]['compiler']}", fontsize=9)
  axes.legend(fontsize=8, frameon=False)
  figure.tight_layout()
  figure.savefig(file)


def main() -> None:
  parser = argparse.ArgumentParser()
  parser.add_argument("--cell", nargs=2)
  parser.add_argument("--devices", action="store_true")
  parser.add_argument("--draw")
  parser.add_argument("kept", nargs="?")
  words = parser.parse_args()
  if words.cell:
    print(json.dumps(cell(*words.cell)))
    return
  kept = pathlib.Path(words.kept)
  lines = kept.read_text().splitlines() if kept.exists() else []
  cells = {(c["model"], c["topology"]): c for c in map(json.loads, lines)}
  if words.draw:
    draw(cells, words.draw)
    return
  places = wanted(words.devices)
  for place in places:
    if place not in cells:
      print("compiling", *place, file=sys.stderr, flush=True)
      done = subprocess.run([sys.executable, __file__, "--cell", *place], capture_output=True, text=True)
      if done.returncode:
        print(done.stderr[-2000:], file=sys.stderr)
        continue
      cells[place] = json.loads(done.stdout.splitlines()[-1])
      with open(kept, "a") as file:
        file.write(json.dumps(cells[place]) + "\n")
  print(table(cells, places))


if __name__ == "__main__":
  main()
