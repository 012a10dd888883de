"""The same small work over one host device and over meshes of eight, to be run in a process of its own, or several.

`python tests/meshes.py CASES ADDRESS PROCESSES PROCESS` prints what each case gave as JSON: cases are lists of a
function's name here and its arguments, of which the last is a mesh, or null for one device. `decoder` and `t5` are the
families; `decoder int8` has quantized kernels.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

DEVICES = 8
DROPOUT = 0.1


def run(cases: Sequence[Sequence[Any]], processes: int = 1) -> list[Any]:
  """What the cases give, in a process that has eight devices, or in several that have as many together."""
  here = Path(__file__)
  environment = os.environ | {
    # Most of the time is compiling: the programs are partitioned all the same.
    "XLA_FLAGS": f"--xla_force_host_platform_device_count={DEVICES // processes} --xla_backend_optimization_level=0 "
    "--xla_llvm_disable_expensive_passes=true --xla_cpu_use_fusion_emitters=false "
    # All devices' threads have to come to a collective, which a machine with other work runs in turn.
    "--xla_cpu_collective_timeout_seconds=600 --xla_cpu_collective_call_terminate_timeout_seconds=600",
    "PYTHONPATH": str(here.parents[1]),
    "JAX_PLATFORMS": "cpu",
  }
  with socket.socket() as found:
    found.bind(("127.0.0.1", 0))
    address = f"127.0.0.1:{found.getsockname()[1]}"
  command, pipe = [sys.executable, str(here), json.dumps(cases)], subprocess.PIPE
  started = [
    subprocess.Popen(
      [*command, address, str(processes), str(number)], env=environment, stdout=pipe, stderr=pipe, text=True
    )
    for number in range(processes)
  ]
  told = [process.communicate() for process in started]
  assert not any(process.returncode for process in started), [err for _, err in told]
  return json.loads(told[0][0].splitlines()[-1])


def join(address: str, count: str, number: str) -> None:
  """Joins the other processes, as the command line does."""
  from fiat_jax import cluster, configuration

  names = {"COORDINATOR": address, "PROCESSES": count, "PROCESS": number}
  cluster.join(configuration.configure([], [], names, []).settings)


@contextlib.contextmanager
def over(mesh: str | None) -> Iterator[None]:
  """Within, work is laid out over a mesh; None is one device."""
  import jax

  from fiat_jax import meshes

  if mesh is None:
    yield
    return
  with jax.set_mesh(meshes.make_mesh(meshes.parse(mesh, DEVICES))):
    yield


def family_of(name: str) -> tuple[Any, Any]:
  """A small module that eight heads can be dealt out of, its vocabulary uneven in one family, and its family."""
  import tiny

  from fiat_jax.models import family
  from fiat_jax.models.config import DecoderConfig
  from fiat_jax.models.decoder import Decoder
  from fiat_jax.models.lora import LoraConfig
  from fiat_jax.models.t5 import T5, T5Config

  lora = LoraConfig(rank=4, dropout=DROPOUT, targets=r".*(attention|ffn)/.*")
  if name.startswith("t5"):
    sizes = {"encoder_layers": 1, "decoder_layers": 2, "heads": 8, "head_dim": 8, "ffn_width": 48}
    module = T5(T5Config(vocab_size=104, width=32, **sizes), lora)
  else:
    sizes = {"heads": 8, "kv_heads": 4, "head_dim": 8, "ffn_width": 48, "max_length": 256}
    module = Decoder(DecoderConfig(vocab_size=tiny.CONFIG.vocab_size, width=32, layers=2, **sizes), lora)
  return module, family.family_of(module)


def parameters(name: str, family: Any) -> Any:
  import jax
  import tiny

  from fiat_jax import sharding
  from fiat_jax.models import quantized

  lies, kind = sharding.of_params(family), name.partition(" ")[2]

  def lay(path: Any, leaf: Any, where: Any) -> Any:
    if kind and "layers" in str(path) and path[-1].key == "kernel":
      leaf = quantized.quantize(leaf, kind)
    if where is None:
      return leaf
    at = lambda part: quantized.part_lies(part, where) if quantized.is_quantized(leaf) else where  # noqa: E731
    return jax.tree.map(lambda part: sharding.place(part, at(part)), leaf)

  params = tiny.random_leaves(family.shapes())
  lies = jax.tree.map(lambda leaf: None, params) if lies is None else lies
  return jax.tree_util.tree_map_with_path(lay, params, lies, is_leaf=lambda leaf: leaf is None)


def losses(name: str, collection: str, optimizer: str, steps: int, mesh: str | None) -> list[float]:
  """The loss of each step, over packed batches that take several microbatches."""
  with over(mesh):
    state, advance = training(name, collection, optimizer, steps)
    found = []
    for number in range(steps):
      state, loss = advance(state, number)
      found.append(loss)
    return found


def fed(mesh: str | None) -> list[list[Any]]:
  """Every array of the batches of two epochs, as the devices of all processes hold them together."""
  import jax
  import numpy as np
  from jax.experimental import multihost_utils

  with over(mesh):
    *_, batch_of = step_of("decoder", "lora", "adamw", 1)
    leaves = [[leaf for leaf in jax.tree.leaves(batch_of(n)) if np.ndim(leaf) > 1] for n in range(5)]
    return [
      [np.asarray(multihost_utils.process_allgather(leaf, tiled=True)).tolist() for leaf in batch] for batch in leaves
    ]


def resumed(name: str, before: str | None, mesh: str | None) -> list[float]:
  """The losses of six steps, of which the last three are taken over another mesh, from a checkpoint."""
  from fiat_jax.checkpoints.run import RunCheckpoints

  found = []
  with tempfile.TemporaryDirectory() as folder:
    for steps, where in ((range(3), before), (range(3, 6), mesh)):
      with over(where):
        state, advance = training(name, "params", "adamw", 6)
        checkpoints = RunCheckpoints(Path(folder))
        restored = checkpoints.restore(state)
        state = restored[0] if restored else state
        for number in steps:
          state, loss = advance(state, number)
          found.append(loss)
        checkpoints.save(int(state.step), state, [])
        checkpoints.close()
  return found


def begun(kind: str, mesh: str | None) -> list[float]:
  """The sum of each leaf of a fresh adapter, laid out as its kernels are."""
  import jax
  import jax.numpy as jnp

  from fiat_jax import sharding
  from fiat_jax.models import adapters
  from fiat_jax.models.lora import LoraConfig

  with over(mesh):
    params = parameters("decoder", family_of("decoder")[1])
    config: Any = LoraConfig(kind=kind, rank=4)  # pyright: ignore[reportArgumentType]
    adapter = sharding.beside(adapters.fresh(jax.random.key(0), params, config), params)
    return [float(jnp.sum(leaf)) for leaf in jax.tree.leaves(adapter)]


def gathered(name: str, collection: str, mesh: str | None) -> dict[str, int]:
  """Elements of the largest array that the step collects from devices, of a layer, of the embedding, of all."""
  import jax

  from fiat_jax import sharding
  from fiat_jax.training.optimizers import OptimizerConfig, optimizer
  from fiat_jax.training.step import make_step

  with over(mesh):
    _, state, frozen, batch_of = step_of(name, collection, "adamw", 4)
    step = make_step(family_of(name)[0], optimizer(OptimizerConfig()), collection, 0, sharding.lies(state))
    text = step.lower(state, frozen, batch_of(0)).compile().as_text()
    params = frozen.get("params", state.trained)
  sizes = [math.prod(map(int, shape.split(","))) for shape in re.findall(r"= \(?\w+\[([\d,]+)\]\S* all-gather", text)]
  stacked = [leaf for path, leaf in jax.tree_util.tree_leaves_with_path(params) if "layers" in str(path)]
  return {
    "largest": max(sizes),
    "layer": max(leaf.size // leaf.shape[0] for leaf in stacked),
    "embedding": params["embedding"].size,
    "all": sum(leaf.size for leaf in jax.tree.leaves(params)),
  }


def training(name: str, collection: str, optimizer: str, steps: int) -> tuple[Any, Callable[[Any, int], Any]]:
  """A first state, and what takes it through a step: `(state, number) → (state, loss)`."""
  step, state, frozen, batch_of = step_of(name, collection, optimizer, steps)

  def advance(state: Any, number: int) -> tuple[Any, float]:
    state, metrics = step(state, frozen, batch_of(number))
    return state, float(metrics.loss)

  return state, advance


def step_of(name: str, collection: str, optimizer: str, steps: int) -> tuple[Any, Any, Any, Callable[[int], Any]]:
  """The jitted step, its first state, what is frozen, and the batch of each number, in several microbatches."""
  import jax
  import tiny

  from fiat_jax import sharding
  from fiat_jax.data.batches import Batches
  from fiat_jax.data.packing import Shape
  from fiat_jax.data.pairs import packing_of
  from fiat_jax.models.lora import init_adapter
  from fiat_jax.training import optimizers
  from fiat_jax.training.step import init_state, make_step

  module, family = family_of(name)
  params = parameters(name, family)
  if collection == "lora":
    trained = sharding.beside(init_adapter(jax.random.key(0), params, module.lora), params)
    frozen = {"params": params}
  else:
    trained, frozen = params, {}
  # Adam moves a weight by the rate even where its gradient is rounding alone: a high one would show that, not a fault.
  rate = 1e-3 if collection == "lora" else 2e-4
  config = optimizers.OptimizerConfig(learning_rate=rate, optimizer=optimizer)  # pyright: ignore
  transform = optimizers.optimizer(config)
  state = init_state(trained, transform)
  rates = optimizers.learning_rates(config, steps)
  step = make_step(module, transform, collection, 0, sharding.lies(state), rates)  # pyright: ignore
  examples = tiny.random_examples([(5 + n % 23, 1 + n % 7) for n in range(90)])
  shape = Shape(rows=DEVICES, length=48, targets=16)
  packing, parts = packing_of(family.start_id), sharding.ways("batch")
  shard = tiny.write_shard(Path(tempfile.mkdtemp()), examples)
  batches = Batches(shard, size=28, seed=1, shape=shape, packing=packing, parts=parts)
  assert batches[0].microbatches > 1
  return step, state, frozen, lambda number: sharding.rows(batches[number])


def refused(mesh: str) -> str:
  """What is said where six heads are to be dealt out over a mesh."""
  from types import SimpleNamespace

  from fiat_jax import sharding
  from fiat_jax.errors import UserError

  model: Any = SimpleNamespace(axes=dict, units=lambda: {"embed": 32, "heads": 6, "kv": 2, "vocab": 97})
  with over(mesh):
    try:
      sharding.of_params(model)
    except UserError as e:
      return str(e)
  return ""


def answers(name: str, mesh: str | None) -> list[Any]:
  """Tokens that the engine gives to greedy and to drawn requests, with and without a shared prefix, in eight slots."""
  import numpy as np
  import tiny

  from fiat_jax.decoding.engine import Engine, Request
  from fiat_jax.decoding.likelihood import label_logprobs
  from fiat_jax.decoding.sampling import Sampling

  module, family = family_of(name)
  with over(mesh):
    weights = family.unstack(parameters(name, family))
    engine = Engine(module, weights, stop_ids=[3], slots=DEVICES)
    prefix = tiny.random_ids(9, seed=50)
    prompts = [prefix + tiny.random_ids(2 + 5 * n, seed=n) for n in range(11)]
    requests = [
      Request(tokens=p, max_new_tokens=6 + n, sampling=Sampling(temperature=n % 3 * 0.5, top_p=0.9, seed=n))
      for n, p in enumerate(prompts)
    ]
    found = [[c.tokens for c in engine.generate(requests, shared=shared)] for shared in (0, len(prefix))]
    scores = label_logprobs(module, weights, prompts[3], [[5, 1], [7, 8, 9, 1]])
    return [*found, np.asarray(scores).round(3).tolist()]


def searched(name: str, beams: int, mesh: str | None) -> list[Any]:
  """What beam search answers to each prompt, tokens and scores, with and without a shared prefix."""
  import tiny

  from fiat_jax.decoding.beam import Beams, search
  from fiat_jax.decoding.engine import Engine, Request

  module, family = family_of(name)
  with over(mesh):
    engine = Engine(module, family.unstack(parameters(name, family)), stop_ids=[3], slots=DEVICES)
    prefix = tiny.random_ids(9, seed=50)
    requests = [Request(tokens=prefix + tiny.random_ids(2 + 5 * n, seed=n), max_new_tokens=6 + n) for n in range(5)]
    return [
      [[(hypothesis.completion.tokens, hypothesis.score) for hypothesis in found] for found in answers]
      for answers in (search(engine, requests, Beams(count=beams), shared=shared) for shared in (0, len(prefix)))
    ]


def loaded(folder: str, kernels: str, mesh: str | None) -> dict[str, float]:
  """A checkpoint's parameters over a mesh: a sum of all, and the share of their bytes that the first device holds."""
  import jax
  import jax.numpy as jnp

  from fiat_jax import sharding
  from fiat_jax.checkpoints.load import load_params
  from fiat_jax.checkpoints.source import open_checkpoint
  from fiat_jax.models.family import family_of, module_for

  source = open_checkpoint(folder)
  family = family_of(module_for(source.config, folder, "float32"))
  with over(mesh):
    lies = sharding.of_params(family)
    params = load_params(source, family.leaves(), family.shapes(), "float32", lies, kernels=kernels)
    leaves = jax.tree.leaves(params)
    weighted = [float(jnp.sum(x.astype(jnp.float32) * jnp.cos(jnp.arange(x.size).reshape(x.shape)))) for x in leaves]
    held = sum(x.addressable_shards[0].data.nbytes for x in leaves)
    return {"sum": sum(weighted), "share": held / sum(x.nbytes for x in leaves)}


if __name__ == "__main__":
  cases, address, count, number = sys.argv[1:]
  if count != "1":
    join(address, count, number)
  found = [globals()[case](*arguments) for case, *arguments in json.loads(cases)]
  print(json.dumps(found))
