"""What a plan says, as text: what each device holds, what each step costs, what would fit."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from fiat_jax.planning.chips import GIB, Chip
from fiat_jax.planning.records import Asked, Found, Worked

ROWS = 1000  # whose answers are timed
UPDATES = 1000  # whose time is said where STEPS does not say how many there are
LONG_SECONDS = 3600.0


class Times(NamedTuple):
  """Seconds that a step takes at the least, by what limits it."""

  products: float
  memory: float
  links: float

  @property
  def longest(self) -> float:
    return max(self)

  @property
  def bound(self) -> str:
    return max(zip(self, ("products", "memory", "links"), strict=True))[1]


def times(step: Worked, chip: Chip) -> Times | None:
  """Roofline; None where the chip or the program is not known. Collectives count as if they overlap with the rest."""
  if not (step.compiled and step.flops and chip.flops):
    return None
  moved = sum(step.collectives.values())
  return Times(step.flops / chip.flops, step.traffic / chip.bandwidth, moved / chip.links)


def text(asked: Asked, found: Found) -> str:
  target, s = asked.target, asked.settings
  mesh = ",".join(f"{name}={size}" for name, size in found.mesh.items())
  made = f"compiled by {found.compiler}" if found.compiler else "by estimate, nothing was compiled"
  kind = {"adapter": "LoRA", "all": "full fine-tuning", "": "no training"}[asked.trains]
  weights = f"{s.weights} kernels, " if s.weights else ""
  lines = [
    f"{asked.name}, {found.parameters:,} parameters, {s.dtype}, {weights}{kind}",
    f"{target.devices} × {target.chip.name} ({target.text}), mesh {mesh}; {made}",
    f"a device has {found.memory / GIB:.2f} GiB for programs; GiB and figures below are of one device",
    "",
    *_table(asked, found),
    "",
    *(f"- {line}" for line in advice(asked, found)),
  ]
  return "\n".join(lines)


def _table(asked: Asked, found: Found) -> list[str]:
  held = list(dict.fromkeys(name for step in found.steps for name in step.held))
  head = ["step", *held, "rest", "peak GiB", "fits"]
  head += ["TFLOP", "of least", "GB moved", "GB collected", "at best", "bound by"] if found.compiler else []
  rows = [head]
  for step in found.steps:
    sizes = [f"{step.held[name] / GIB:.2f}" if name in step.held else "" for name in held]
    rest = max(0.0, step.peak - sum(step.held.values()))
    row = [
      step.name,
      *sizes,
      f"{rest / GIB:.2f}",
      f"{step.peak / GIB:.2f}",
      "yes" if step.peak <= found.memory else "NO",
    ]
    if found.compiler:
      row += _costs(step, asked.target.chip)
    rows.append(row)
  wide = [max(len(row[n]) for row in rows) for n in range(len(head))]
  return ["  ".join(cell.ljust(size) for cell, size in zip(row, wide, strict=True)).rstrip() for row in rows]


def _costs(step: Worked, chip: Chip) -> list[str]:
  best = times(step, chip)
  if best is None:
    return [""] * 6
  kinds = ", ".join(f"{kind} {amount / 1e9:.3g}" for kind, amount in sorted(step.collectives.items()))
  ratio = f"{step.flops / step.least:.2f}" if step.least else ""
  least = [f"{step.flops / 1e12:.3g}", ratio, f"{step.traffic / 1e9:.3g}", kinds or "none"]
  return [*least, duration(best.longest), best.bound]


def advice(asked: Asked, found: Found) -> list[str]:
  """What follows from the figures, a sentence each."""
  s, devices = asked.settings, asked.target.devices
  by_name = {step.name: step for step in found.steps}
  lines = []
  if train := by_name.get("train"):
    many = f"{train.microbatches} microbatches of {train.rows}" if train.microbatches > 1 else f"one of {train.rows}"
    lines.append(
      f"an update of {s.batch} × ({s.source_length} + {s.target_length}) tokens is taken in {many} rows a part"
    )
    fitting, failing = ([rows for rows, fits in found.tried.items() if fits is want] for want in (True, False))
    if fitting:
      whole = train.rows * train.microbatches  # of a part
      beyond = (
        f"; {min(failing)} do not fit" if failing else ", all that the batch has" if max(fitting) >= whole else ""
      )
      tried = " of those tried" if failing and min(failing) > 2 * max(fitting) else ""
      lines.append(f"the largest microbatch{tried} that fits has {max(fitting)} rows a part{beyond}")
      if max(fitting) > train.rows:
        tokens = max(fitting) * (s.source_length + s.target_length)
        lines[-1] += f"; --microbatch_tokens {tokens} takes it, which may be faster or slower"
    if (best := times(train, asked.target.chip)) and train.peak <= found.memory:
      lines += _pace(s.steps or UPDATES, best.longest, train, asked, found)
  lines += _answers(asked, found, by_name)
  wanting = [step.name for step in found.steps if step.peak > found.memory]
  if wanting:
    lines.append(f"{', '.join(wanting)} would not fit: {remedy(asked, found)}")
  elif devices == 1:
    lines.append("all of it fits on one device")
  if not found.compiler:
    why = "" if not asked.target.described else "; where libtpu can be imported, TPU programs are compiled for it here"
    lines.append(f"activations are estimated from the model's sizes and run times are not said{why}")
  return lines


def _pace(updates: int, seconds: float, train: Worked, asked: Asked, found: Found) -> Sequence[str]:
  devices = asked.target.devices
  lines = [
    f"at best {train.tokens / seconds:,.0f} tokens a second, and {updates:,} updates in {duration(updates * seconds)}: "
    "no program reaches all of a chip's rates, twice the time is good"
  ]
  alone = sum(train.held.values()) * found.mesh["fsdp"] * found.mesh["tensor"]  # `data` holds copies
  if devices > 1 and alone < 0.5 * found.memory and updates * seconds * devices < LONG_SECONDS:
    lines.append(
      f"the slice is a waste: on one chip the model would leave half of the memory free, and {updates:,} updates take "
      f"{duration(updates * train.flops * devices / asked.target.chip.flops)} at best"
    )
  return lines


def _answers(asked: Asked, found: Found, by_name: Mapping[str, Worked]) -> Sequence[str]:
  """How long answering rows takes: a prompt after the other is read, tokens of all slots are decoded side by side."""
  s, steps = asked.settings, [by_name[name] for name in ("prefill", "decode") if name in by_name]
  if len(steps) < 2 or any(step.peak > found.memory for step in steps):
    return []
  prefill, step = (times(step, asked.target.chip) for step in steps)
  if prefill is None or step is None:
    return []
  seconds = ROWS * prefill.longest + math.ceil(ROWS / s.slots) * s.target_length * step.longest
  return [
    f"at best {ROWS:,} prompts of {s.source_length} tokens are answered with {s.target_length} each in "
    f"{duration(seconds)}, {s.slots} side by side"
  ]


def remedy(asked: Asked, found: Found) -> str:
  """What to change first where a step does not fit."""
  s, devices = asked.settings, asked.target.devices
  model = max(step.held["model"] for step in found.steps)
  if slots := _fewer_slots(s.slots, found):
    return f"--slots {slots} decodes fewer side by side"
  if devices > 1 and found.mesh["data"] > 1 and model > 0.25 * found.memory:
    return f"--mesh fsdp={devices} deals the weights out"
  train = next((step for step in found.steps if step.name == "train"), None)
  if train and s.remat == "none" and sum(train.held.values()) < 0.8 * found.memory < train.peak:
    return "--remat full keeps little of what the layers give, for half as much work again"
  if s.dtype == "float32":
    return "--dtype bfloat16 halves what there is"
  if asked.trains == "all":
    return "full fine-tuning keeps moments of all weights: --recipes fiat tunes an adapter"
  if model > 0.5 * found.memory and not s.weights:
    return "--weights int8 or nf4 keeps the frozen kernels in fewer bits; or take more devices"
  return "a shorter --source_length, or more devices"


def _fewer_slots(slots: int, found: Found) -> int:
  """How many would fit, by what a slot's cache takes; 0 where it is more than that which does not."""
  wanting = [step for step in found.steps if step.peak > found.memory]
  if not all("cache" in step.held for step in wanting):
    return 0
  room = min(found.memory - step.peak + step.held["cache"] for step in wanting)
  fitting = int(0.9 * room / (wanting[0].held["cache"] / slots))  # a little less, as the rest is not just as large
  return 1 << (fitting.bit_length() - 1) if fitting > 0 else 0


def duration(seconds: float) -> str:
  """A time to read."""
  for size, unit in ((86400, "days"), (3600, "h"), (60, "min"), (1, "s"), (1e-3, "ms")):
    if seconds >= (size if size == 1 else 2 * size) or unit == "ms":
      return f"{seconds / size:.3g} {unit}"
  return ""
