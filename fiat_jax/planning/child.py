"""A plan's own process: it pretends to have devices, and compiles for those that it does not have.

`python -m fiat_jax.planning.child` reads an `Asked` as JSON and writes a `Found` so, or what the user can mend.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import pathlib
import re
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

from fiat_jax import signals
from fiat_jax.children import POLL_SECONDS
from fiat_jax.errors import UserError
from fiat_jax.planning import records
from fiat_jax.planning.chips import GIB, Target
from fiat_jax.planning.records import Asked, Found, Worked

TOO_LARGE = (  # the second of temporaries alone, where those are too much already
  r"Used ([\d.]+)([KMG]) of ([\d.]+)([KMG]) hbm",
  r"\(([\d.]+)([KMG])\) exceeds available HBM \(([\d.]+)([KMG])\)",
)
UNITS = {"K": 2**10, "M": 2**20, "G": GIB}
SHARE = 0.8  # of what is free, that activations may take by estimate (`training/microbatch.py`)
MOST_TRIALS = 4  # microbatches that are compiled
# No TPU is looked for, and a training that runs on one beside this is in no one's way.
COMPILES = {"JAX_PLATFORMS": "cpu", "TPU_SKIP_MDS_QUERY": "1", "ALLOW_MULTIPLE_LIBTPU_LOAD": "1"}


def has_compiler() -> bool:
  return importlib.util.find_spec("libtpu") is not None


def ask(asked: Asked) -> Found:
  """What the child found.

  Raises:
    UserError: what the child refuses.
    signals.Stopped: a signal came.
  """
  pretended = f"--xla_force_host_platform_device_count={asked.target.devices}"
  environment = (
    os.environ
    | COMPILES
    | {
      "XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} {pretended}",
      "PYTHONPATH": os.pathsep.join(
        filter(None, [str(pathlib.Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")])
      ),
    }
  )
  command = [sys.executable, "-m", "fiat_jax.planning.child"]
  pipe = subprocess.PIPE
  with subprocess.Popen(command, env=environment, stdin=pipe, stdout=pipe, stderr=pipe) as process:
    try:
      out, err = _wait(process, records.asked_as_json(asked).encode())
    finally:
      process.kill()
  signals.check()  # an interrupt ends the child too
  if process.returncode:
    raise RuntimeError(f"planning failed, exit code {process.returncode}:\n{err.decode(errors='replace')}")
  if "error" in (answer := json.loads(out)):
    raise UserError(answer["error"])
  return records.found_from_json(out)


def _wait(process: subprocess.Popen[bytes], given: bytes) -> tuple[bytes, bytes]:
  while True:
    try:
      return process.communicate(given, timeout=POLL_SECONDS)
    except subprocess.TimeoutExpired:
      signals.check()
      given = b""


def plan(asked: Asked) -> Found:
  """Works the steps out over a mesh of the devices asked for.

  Raises:
    UserError: the mesh or the model does not fit the devices, SLOTS do not fit the mesh, or libtpu is another than that
      of this JAX.
  """
  import jax

  from fiat_jax import meshes, sharding
  from fiat_jax.models.family import module_for
  from fiat_jax.planning import least
  from fiat_jax.planning.steps import Plan
  from fiat_jax.verbs.tuning import optimizer_config

  s, compiles = asked.settings, bool(asked.target.described) and has_compiler()
  sizes = meshes.parse(s.mesh, asked.target.devices)
  module = module_for(asked.config, asked.name, s.dtype, asked.lora)
  with jax.set_mesh(_mesh(asked.target, sizes, compiles)):
    sharding.check_slots(s.slots)
    made = Plan(module, s, optimizer_config(s), full=asked.trains == "all")
    work = _Work(made, asked, compiles)
    steps = work.training() if asked.trains else []
    steps += [work.step("prefill", made.prefill(), 1), work.step("decode", made.decode(), 1)]
    compiler = f"libtpu {importlib.metadata.version('libtpu')}" if compiles else ""
    return Found(compiler, sizes, least.parameters(made.family.shapes()), work.memory, steps, work.tried)


def _mesh(target: Target, sizes: Mapping[str, int], compiles: bool) -> Any:
  """The devices asked for, or as many that are pretended, as a mesh.

  Raises:
    UserError: libtpu describes no such slice.
  """
  import jax
  import numpy as np
  from jax.sharding import AxisType, Mesh

  from fiat_jax import meshes

  shape, kinds = tuple(sizes.values()), (AxisType.Auto,) * len(sizes)
  if not compiles:
    return Mesh(np.array(jax.devices()).reshape(shape), meshes.AXES, axis_types=kinds)
  devices = _described(target)
  laid = np.array(devices).reshape(shape) if target.devices == 1 else meshes.laid(devices, sizes)
  return Mesh(laid, meshes.AXES, axis_types=kinds)


def _described(target: Target) -> list[Any]:
  import jax
  from jax.experimental import topologies

  # a v4 chip's two cores are one device, as they are when a program runs there
  cores: dict[str, Any] = {"chip_config_name": "megacore"} if target.described.startswith("v4:") else {}
  try:
    slice_ = topologies.get_topology_desc(topology_name=target.described, platform="tpu", **cores)
  except jax.errors.JaxRuntimeError as e:
    said = str(e).splitlines()[0]
    raise UserError(
      f"--topology {target.text}: libtpu describes no such slice ({said}): give one that can be rented"
    ) from None
  return slice_.devices[: target.devices]


class _Work:
  """The steps of one plan, compiled or estimated. `memory` is what the compiler says there is, once it does."""

  def __init__(self, made: Any, asked: Asked, compiles: bool):
    self._plan, self._asked, self._compiles = made, asked, compiles
    self.memory, self.tried = asked.target.chip.memory, {}

  def training(self) -> list[Worked]:
    """The step that training takes, and its evaluation: with the microbatch that it begins with, halved until it fits.

    Where it fits at once, larger ones are tried too.
    """
    from fiat_jax import sharding

    s = self._asked.settings
    most = max(1, -(-s.batch // sharding.ways("batch")))
    rows, best = min(most, max(1, self._asked_for() or self._by_estimate())), None
    while rows not in self.tried and len(self.tried) < MOST_TRIALS:
      done = self.step("train", self._plan.train(rows), rows)
      self.tried[rows] = done.peak <= self.memory
      if best is None or not self.tried[best.rows]:
        best = done
      rows = max(1, rows // 2) if not self.tried[rows] else min(most, 2 * rows)
      if len(self.tried) == MOST_TRIALS - 1 and not any(self.tried.values()):
        rows = 1
    assert best is not None, "one at least is tried"
    return [best, self.step("evaluate", self._plan.evaluate(best.rows), best.rows)]

  def _asked_for(self) -> int:
    """Rows a device of MICROBATCH_TOKENS; 0 where it is left to the estimate."""
    s = self._asked.settings
    return s.microbatch_tokens and max(1, s.microbatch_tokens // (s.source_length + s.target_length))

  def _by_estimate(self) -> int:
    """A power of two of rows."""
    step = self._plan.train(1)
    room = SHARE * (self.memory - sum(step.held.values()) - step.gradients) / self._activations(1)
    return 1 << (max(1, int(room)).bit_length() - 1)

  def _activations(self, rows: int) -> float:
    s = self._asked.settings
    length = s.source_length + s.target_length
    return rows * length * self._plan.family.bytes_a_token(length, s.remat)

  def step(self, name: str, step: Any, rows: int) -> Worked:
    worked = Worked(name, rows, step.trips, step.tokens, step.held, 0.0, self._least(name, step), self._compiles)
    held = sum(step.held.values()) + step.gradients
    if not self._compiles:
      layers = (
        1 if name == "train" else 0.1
      )  # of what training keeps of all layers, a pass without gradient keeps one's
      return worked._replace(peak=held + (layers * self._activations(rows) if name != "decode" else 0.0))
    try:
      compiled = step.lower().compile()
    except Exception as e:
      if (sizes := too_large(str(e))) is None:
        raise
      peak, self.memory = sizes
      return worked._replace(peak=peak)
    from fiat_jax.planning.program import costs

    flops, traffic, collectives = costs(_text(compiled), step.trips)
    return worked._replace(peak=_peak(compiled), flops=flops, traffic=traffic, collectives=collectives)

  def _least(self, name: str, step: Any) -> float:
    from fiat_jax.planning import least

    s, module = self._asked.settings, self._plan.module
    sizes = module.config, self._plan.family.shapes(), s.source_length, s.target_length
    examples = step.tokens / (s.source_length + s.target_length) / self._asked.target.devices
    if name == "train":
      return examples * least.update(*sizes, full=self._asked.trains == "all", remat=s.remat)
    return examples * least.forward(*sizes) if name == "evaluate" else 0.0


def too_large(message: str) -> tuple[float, float] | None:
  """What a program takes and what there is, in bytes, as the compiler says of one that does not fit."""
  found = next(filter(None, (re.search(said, message) for said in TOO_LARGE)), None)
  return found and (float(found[1]) * UNITS[found[2]], float(found[3]) * UNITS[found[4]])


def _text(compiled: Any) -> str:
  """The compiled program.

  Raises:
    UserError: this jaxlib does not read all that this libtpu writes.
  """
  import jax

  try:
    return compiled.as_text()
  except jax.errors.JaxRuntimeError as e:
    has, goes = (f"{name} {importlib.metadata.version(name)}" for name in ("libtpu", "jaxlib"))
    wanted = next(said.partition(";")[0] for said in importlib.metadata.requires("jax") or () if "libtpu" in said)
    raise UserError(
      f"{goes} cannot read what {has} compiled: take the one that goes with it, pip install --no-deps --target "
      f"~/libtpu '{wanted}'"
    ) from e


def _peak(compiled: Any) -> float:
  m = compiled.memory_analysis()
  held = m.argument_size_in_bytes + m.output_size_in_bytes - m.alias_size_in_bytes + m.generated_code_size_in_bytes
  return max(held + m.temp_size_in_bytes, m.peak_memory_in_bytes)


def main() -> None:
  out = os.fdopen(os.dup(1), "w", encoding="utf-8")
  os.dup2(2, 1)  # libraries write there
  try:
    answer = records.found_as_json(plan(records.asked_from_json(sys.stdin.read())))
  except UserError as e:
    answer = json.dumps({"error": str(e)})
  with out:
    out.write(answer)


if __name__ == "__main__":
  main()
