"""The README's table of plans: LoRA updates of Flan-T5, small to xxl, on slices of every TPU, compiled by libtpu.

PYTHONPATH=~/libtpu .venv/bin/python launch/plan_table.py plans.jsonl --into README.md  # an hour or two
PYTHONPATH=~/libtpu .venv/bin/python launch/plan_table.py plans.jsonl --chips launch/plan_chips.png

What was compiled is kept in the file of JSON lines: a run that was stopped goes on, and a finished one only writes.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

ROOT = pathlib.Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))
RUN = "--dtype bfloat16 --batch 128 --source_length 512 --target_length 128"
TRIALS = 3  # microbatches that are compiled for a cell, each of half the rows, until one fits
UPDATES = 1000
USUAL = 2  # times the best time is what programs take, as `fiat plan` has it
PRICES = "v5e=1.20,v6e=2.70,v4=3.22,v5p=4.20"  # USD a chip-hour, cloud.google.com/tpu/pricing, on demand
BEGIN, END = "<!-- plans: launch/plan_table.py -->", "<!-- end of plans -->"


class Place(NamedTuple):
  """A model on a slice, laid out over a mesh."""

  model: str
  topology: str
  mesh: str

  @property
  def kind(self) -> str:
    return self.topology.split(":")[0]


def places() -> list[Place]:
  """The smallest slices to rent that leave room; weights are dealt out where they fill a good part of a chip."""
  one = {"v5e": "1x1", "v6e": "1x1", "v4": "2x2x1", "v5p": "2x2x1"}
  four = {**one, "v5e": "2x2", "v6e": "2x2"}
  many = {"v5e": "4x4", "v6e": "2x4", "v4": "2x2x2", "v5p": "2x2x1"}
  slices = {"xxl": (many, "fsdp"), "xl": (four, "fsdp"), **dict.fromkeys(("large", "base", "small"), (one, "data"))}
  return [
    Place(f"flan_t5_{size}", f"{kind}:{shape}", f"{axis}={_chips(shape)}")
    for size, (shapes, axis) in slices.items()
    for kind, shape in shapes.items()
  ]


def sweep() -> list[Place]:
  return [Place("flan_t5_xxl", f"v5e:{shape}", f"fsdp={_chips(shape)}") for shape in ("2x2", "2x4", "4x4")]


def _chips(shape: str) -> int:
  product = 1
  for size in shape.split("x"):
    product *= int(size)
  return product


def compiled(place: Place) -> dict[str, Any]:
  """The training step, with the microbatch that training begins with, halved until it fits."""
  from fiat_jax.planning import child

  os.environ |= child.COMPILES
  import importlib.metadata

  import jax

  from fiat_jax import configuration, flags, meshes
  from fiat_jax.models import catalogue
  from fiat_jax.models.family import module_for
  from fiat_jax.planning import chips, report
  from fiat_jax.planning.records import Asked
  from fiat_jax.planning.steps import Plan
  from fiat_jax.verbs.tuning import optimizer_config
  from fiat_jax.workbench import lora_config

  began, target = time.monotonic(), chips.parse(place.topology)
  given = flags.parse(["--model", place.model, "--mesh", place.mesh, *RUN.split()])
  configured = configuration.configure(given.gin_files, given.bindings, given.settings, given.search_paths)
  s, config = configured.settings, catalogue.MODELS[place.model].config
  asked = Asked(target, place.model, config, s, "adapter", lora_config(s, configured.recipe("fiat")))
  with jax.set_mesh(child._mesh(target, meshes.parse(s.mesh, target.devices), True)):
    made = Plan(module_for(config, place.model, s.dtype, asked.lora), s, optimizer_config(s), full=False)
    work = child._Work(made, asked, True)
    rows = min(-(-s.batch // target.devices), work._by_estimate())
    for _ in range(TRIALS):
      found = work.step("train", made.train(rows), rows)
      if found.peak <= work.memory or rows == 1:
        break
      rows //= 2
  return {
    **place._asdict(),
    "run": RUN,
    "compiler": importlib.metadata.version("libtpu"),
    "took": round(time.monotonic() - began),
    "memory": work.memory,
    "step": found._asdict(),
    "times": report.times(found, target.chip),
  }


def table(cells: Sequence[dict[str, Any]], prices: dict[str, float]) -> str:
  """Markdown, a row for each cell."""
  from fiat_jax.planning.chips import GIB
  from fiat_jax.planning.report import duration

  lines = [
    "| model | slice, mesh | GiB at the worst, of | rows | FLOPs | at best | bound by | 1,000 updates, USD |",
    "| --- | --- | ---: | ---: | ---: | ---: | --- | ---: |",
  ]
  for c in cells:
    step, place = c["step"], Place(c["model"], c["topology"], c["mesh"])
    where = f"{place.topology}, {place.mesh}" if place.mesh[-2:] != "=1" else place.topology
    memory = f"{step['peak'] / GIB:.1f} of {c['memory'] / GIB:.0f}"
    row = [place.model, where, memory, f"{step['microbatches']} × {step['rows']}"]
    if c["times"] is None:
      row += ["does not fit", "", "", ""]
    else:
      longest = max(c["times"])
      bound = ("products", "memory", "links")[c["times"].index(longest)]
      chip_hours = UPDATES * USUAL * longest / 3600 * _chips(place.topology.split(":")[1])
      money = f"{chip_hours * prices[place.kind]:.2f}" if place.kind in prices else ""
      row += [f"{step['flops'] / step['least']:.2f}", duration(longest), bound, money]
    lines.append(f"| {' | '.join(row)} |")
  return "\n".join(lines)


def put(text: str, file: pathlib.Path) -> None:
  """Between the two marks of a page."""
  before, rest = file.read_text().split(BEGIN)
  file.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{rest.split(END)[1]}")


def draw(cells: Sequence[dict[str, Any]], file: str) -> None:
  """Seconds an update against chips: what each of a chip's rates allows, and the longest of them."""
  import matplotlib

  matplotlib.use("Agg")
  from matplotlib import pyplot

  found = [c for c in cells if c["times"]]
  count = [_chips(c["topology"].split(":")[1]) for c in found]
  longest = [max(c["times"]) for c in found]
  figure, axes = pyplot.subplots(figsize=(5.2, 3.4), dpi=110)
  axes.plot(count, longest, color="0.75", linewidth=7, label="the longest of them", solid_capstyle="round")
  for number, name in enumerate(("products", "memory", "links between chips")):
    axes.plot(count, [c["times"][number] for c in found], marker=".", label=name)
  axes.plot(count, [longest[0] * count[0] / n for n in count], color="black", linestyle=":", linewidth=1)
  axes.annotate("as chips grow", (count[-1], longest[0] * count[0] / count[-1]), fontsize=7, ha="right", va="top")
  axes.set(xscale="log", yscale="log", xlabel=f"{Place(**_place(found[0])).kind} chips", ylabel="seconds an update")
  axes.set_xticks(count, [str(n) for n in count])
  ticks = [n for n in (0.1, 0.2, 0.5, 1, 2, 5, 10, 20) if min(map(min, (c["times"] for c in found))) <= n]
  axes.set_yticks(ticks, [f"{n:g}" for n in ticks])
  axes.set_ylim(0.8 * min(map(min, (c["times"] for c in found))), 1.4 * longest[0])
  axes.minorticks_off()
  axes.set_title(f"{found[0]['model']}, LoRA, 128 × (512 + 128) tokens; libtpu {found[0]['compiler']}", fontsize=8)
  axes.legend(fontsize=7, frameon=False)
  figure.tight_layout()
  figure.savefig(file)


def _place(cell: dict[str, Any]) -> dict[str, str]:
  return {name: cell[name] for name in Place._fields}


def kept(file: pathlib.Path) -> dict[Place, dict[str, Any]]:
  lines = file.read_text().splitlines() if file.exists() else []
  return {Place(**_place(c)): c for c in map(json.loads, lines) if c["run"] == RUN}


def complete(wanted: Sequence[Place], file: pathlib.Path) -> list[dict[str, Any]]:
  """The cells, those that are missing compiled one after another, each in a process of its own."""
  cells = kept(file)
  for place in wanted:
    if place in cells:
      continue
    print("compiling", *place, file=sys.stderr, flush=True)
    done = subprocess.run([sys.executable, __file__, "--cell", *place], capture_output=True, text=True)
    if done.returncode:
      print(done.stderr[-2000:], file=sys.stderr, flush=True)
      continue
    cells[place] = json.loads(done.stdout.splitlines()[-1])
    with file.open("a") as out:
      out.write(json.dumps(cells[place]) + "\n")
  return [cells[place] for place in wanted if place in cells]


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument("kept", nargs="?", help="where what was compiled is kept, JSON lines")
  parser.add_argument("--into", help="a page with the marks between which the table goes; else it is printed")
  parser.add_argument("--chips", help="draws, to this file, the time of xxl over ever more chips instead")
  parser.add_argument("--prices", default=PRICES, help="of a chip-hour")
  parser.add_argument("--cell", nargs=3, help=argparse.SUPPRESS)
  words = parser.parse_args()
  if words.cell:
    print(json.dumps(compiled(Place(*words.cell))))
    return
  if not words.kept:
    parser.error("where is what was compiled to be kept?")
  if words.chips:
    draw(complete(sweep(), pathlib.Path(words.kept)), words.chips)
    return
  prices = {kind: float(price) for kind, price in (part.split("=") for part in words.prices.split(",") if part)}
  text = table(complete(places(), pathlib.Path(words.kept)), prices)
  if words.into:
    put(text, pathlib.Path(words.into))
  else:
    print(text)


if __name__ == "__main__":
  main()
