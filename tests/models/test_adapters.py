"""Adapters of every kind in both families, held against what PEFT computed (`tests/golden/make_adapters.py`)."""

from __future__ import annotations

import functools
import json
import pathlib
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from golden_script import GOLDEN, golden_script
from safetensors.numpy import load_file, save_file

from fiat_jax.checkpoints import given_adapter
from fiat_jax.checkpoints.given_adapter import Given
from fiat_jax.checkpoints.load import load_params
from fiat_jax.checkpoints.peft import write_adapter
from fiat_jax.checkpoints.source import open_checkpoint
from fiat_jax.data.packing import Example, Shape
from fiat_jax.data.pairs import packing_of
from fiat_jax.data.prompted import prompted
from fiat_jax.decoding.engine import Engine
from fiat_jax.decoding.likelihood import label_logprobs
from fiat_jax.decoding.request import Request
from fiat_jax.models import adapters
from fiat_jax.models.family import Family, family_of, module_for
from fiat_jax.models.lora import LoraConfig
from fiat_jax.training.step import summed_gradients

pytestmark = pytest.mark.compiled_quickly

SCRIPT = golden_script("adapters")
CASES = [(family, kind) for family in SCRIPT.FAMILIES for kind in SCRIPT.KINDS]
UNLIKE = [(family, kind) for family, kind in CASES if kind not in ("lora", "rslora")]  # what `test_lora.py` has not


class Case(NamedTuple):
  """A model with PEFT's adapter, and what PEFT computed."""

  module: Any
  params: dict[str, Any]
  given: Given
  config: LoraConfig
  tree: dict[str, Any]
  recorded: dict[str, np.ndarray]

  @property
  def family(self) -> Family:
    return family_of(self.module)

  @property
  def variables(self) -> dict[str, Any]:
    return {"params": self.params, "lora": self.tree, "lora_scale": self.given.scales}


@functools.cache
def base(family: str, folder: pathlib.Path) -> tuple[Any, dict[str, Any]]:
  (folder / "config.json").write_text(json.dumps(SCRIPT.FAMILIES[family]))
  save_file(SCRIPT.tensors(family), folder / "model.safetensors", metadata={"format": "pt"})
  source = open_checkpoint(folder)
  module = module_for(source.config, str(folder), "float32")
  found = family_of(module)
  return module, load_params(source, found.leaves(), found.shapes(), "float32")


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
  return {family: tmp_path_factory.mktemp(family) for family in SCRIPT.FAMILIES}


@pytest.fixture(params=CASES, ids="-".join)
def case(request, folders, tmp_path) -> Case:
  family, kind = request.param
  with np.load(GOLDEN / "adapters.npz") as arrays:
    start = f"{family}.{kind}."
    recorded = {name.removeprefix(start): arrays[name] for name in arrays.files if name.startswith(start)}
  module, params = base(family, folders[family])
  write_peft(tmp_path / "peft", recorded)
  given = given_adapter.read(str(tmp_path / "peft"), family_of(module))
  config = LoraConfig(rank=3, alpha=5.0, kind=given.kind, scaling="root_rank" if given.root_rank else "rank")
  return Case(module.clone(lora=config), params, given, config, jax.tree.map(jnp.asarray, dict(given.tree)), recorded)


def write_peft(folder: pathlib.Path, recorded: dict[str, np.ndarray]) -> None:
  """The folder as PEFT saved it."""
  folder.mkdir()
  (folder / "adapter_config.json").write_text(str(recorded["config"]))
  tensors = {name.removeprefix("file."): value for name, value in recorded.items() if name.startswith("file.")}
  save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})


def examples(case: Case) -> list[Example]:
  family = "t5" if case.family.start_id is not None else "llama"
  rows = [Example(prompt, target, n) for n, (prompt, target) in enumerate(SCRIPT.rows(family))]
  count = len(case.tree.get("prompt", ()))
  found: Any = prompted(rows, count)  # pyright: ignore[reportArgumentType]  a list reads as they do
  return [found[n] for n in range(len(rows))]


def packed(case: Case, rows: list[Example]) -> Any:
  return packing_of(case.family.start_id).pack(rows, Shape(rows=1, length=64, targets=24))


@functools.partial(jax.jit, static_argnums=0)
def target_logits(module: Any, variables: Any, micro: Any) -> jax.Array:
  return module.apply(variables, micro, method="target_logits")


def logits_of(module: Any, variables: Any, case: Case, row: Example) -> np.ndarray:
  arrays = {name: array[0] for name, array in packed(case, [row])._asdict().items() if name != "microbatches"}
  return np.asarray(target_logits(module, variables, arrays))[0, : len(row.targets)]


def test_logits_are_peft_s(case: Case):
  for row in examples(case):
    np.testing.assert_allclose(
      logits_of(case.module, case.variables, case, row), case.recorded[f"logits.{row.row}"], atol=1e-4
    )
  plain = logits_of(case.module, {"params": case.params}, case, examples(case)[0]._replace(inputs=np.arange(2, 9)))
  assert plain.shape == case.recorded["logits.0"].shape


def test_gradients_are_peft_s(case: Case, tmp_path):
  """Of the mean loss of both rows, packed into one, under the names under which PEFT saves."""
  batch = jax.tree.map(jnp.asarray, packed(case, examples(case)))
  frozen = {"params": case.params, "lora_scale": case.given.scales}
  loss, gradient, tokens = summed_gradients(case.module, "lora", case.tree, frozen, batch, jax.random.key(0))
  assert float(loss / tokens) == pytest.approx(float(case.recorded["loss"]), abs=1e-5)
  ranks = case.given.ranks or None
  write_adapter(tmp_path / "gradient", gradient, case.family, case.config, "base", ranks=ranks)
  found = load_file(tmp_path / "gradient" / "adapter_model.safetensors")
  assert {f"gradient.{name}" for name in found} == {name for name in case.recorded if name.startswith("gradient.")}
  for name, values in found.items():
    wanted = case.recorded[f"gradient.{name}"]
    np.testing.assert_allclose(values / float(tokens), wanted, atol=1e-4 * max(1.0, np.abs(wanted).max()), err_msg=name)


def test_it_comes_back_bit_for_bit(case: Case, tmp_path):
  """What PEFT saved, read and written again: the same tensors, and all that PEFT reads of the description."""
  ranks = case.given.ranks or None
  write_adapter(tmp_path / "ours", case.tree, case.family, case.config, "base", ranks=ranks)
  found = load_file(tmp_path / "ours" / "adapter_model.safetensors")
  assert {f"file.{name}" for name in found} == {name for name in case.recorded if name.startswith("file.")}
  for name, values in found.items():
    np.testing.assert_array_equal(values, case.recorded[f"file.{name}"])
  again = given_adapter.read(str(tmp_path / "ours"), case.family)
  for found_leaf, wanted in zip(jax.tree.leaves(again.tree), jax.tree.leaves(case.given.tree), strict=True):
    np.testing.assert_array_equal(found_leaf, wanted)
  for found_leaf, wanted in zip(jax.tree.leaves(again.scales), jax.tree.leaves(case.given.scales), strict=True):
    np.testing.assert_array_equal(found_leaf, wanted)
  ours, theirs = (json.loads(text) for text in (_text(tmp_path / "ours"), str(case.recorded["config"])))
  for key in ("peft_type", "task_type", "use_dora", "use_rslora", "bias", "num_virtual_tokens", "token_dim"):
    assert ours.get(key) == theirs.get(key), key


def _text(folder: pathlib.Path) -> str:
  return (folder / "adapter_config.json").read_text()


@pytest.mark.parametrize("case", UNLIKE, indirect=True, ids="-".join)
def test_decoding_applies_it_as_training_does(case: Case):
  """Log-probabilities of a target behind its prompt over the cached path, and greedy tokens of the engine."""
  tree = adapters.settled(case.params, case.tree, case.config, case.given.scales)
  weights = case.family.with_adapter(case.family.unstack(case.params), tree)
  row = examples(case)[1]
  bare = row.inputs[row.inputs >= 0].tolist()
  logits = logits_of(case.module, case.variables, case, row).astype(np.float64)
  chosen = logits[np.arange(len(row.targets)), row.targets] - np.logaddexp.reduce(logits, axis=-1)
  found = label_logprobs(case.module, weights, bare, [row.targets.tolist()])
  np.testing.assert_allclose(found, [chosen.sum()], atol=1e-3)
  (answer,) = Engine(case.module, weights, stop_ids=[], slots=2).generate(
    [Request(tokens=bare, max_new_tokens=6), Request(tokens=bare[:4], max_new_tokens=2)]
  )[:1]
  forced = logits_of(case.module, case.variables, case, row._replace(targets=np.asarray(answer.tokens, np.int32)))
  assert answer.tokens == forced.argmax(-1).tolist()


@pytest.mark.parametrize("case", UNLIKE, indirect=True, ids="-".join)
def test_merged_it_gives_the_same_logits(case: Case):
  if case.given.kind == "prompt":
    with pytest.raises(Exception, match="a soft prompt cannot be merged into weights: give --format peft"):
      adapters.merge(case.params, case.tree, case.config, case.given.scales)
    return
  merged = adapters.merge(case.params, case.tree, case.config, case.given.scales)
  for row in examples(case):
    found = logits_of(case.module, {"params": merged}, case, row)
    np.testing.assert_allclose(found, case.recorded[f"logits.{row.row}"], atol=1e-4)


@pytest.mark.parametrize("kind", ["lora", "dora", "ia3"])
def test_a_fresh_one_leaves_the_model_as_it_is(folders, kind):
  module, params = base("llama", folders["llama"])
  targets = adapters.IA3_TARGETS if kind == "ia3" else LoraConfig().targets
  config = LoraConfig(kind=kind, targets=targets)
  fresh = adapters.fresh(jax.random.key(0), params, config)
  module = module.clone(lora=config)
  tokens = jnp.arange(2, 22)[None]
  of = lambda variables: module.apply(  # noqa: E731
    variables, tokens, jnp.arange(20)[None], jnp.ones((1, 20), jnp.int32), method="init_all"
  )
  np.testing.assert_allclose(of({"params": params, "lora": fresh}), of({"params": params}), atol=1e-5)


def test_what_fills_up_a_smaller_rank_stays_zero(folders, tmp_path):
  """Training leaves the rows and columns that are not there as they are, so that the export has its ranks."""
  with np.load(GOLDEN / "adapters.npz") as arrays:
    recorded = {name.removeprefix("llama.patterns."): arrays[name] for name in arrays.files if "llama.patterns" in name}
  module, params = base("llama", folders["llama"])
  write_peft(tmp_path / "peft", recorded)
  given = given_adapter.read(str(tmp_path / "peft"), family_of(module))
  tree = jax.tree.map(jnp.asarray, dict(given.tree))
  case = Case(module.clone(lora=LoraConfig()), params, given, LoraConfig(), tree, recorded)
  batch = jax.tree.map(jnp.asarray, packed(case, examples(case)))
  frozen = {"params": params, "lora_scale": given.scales}
  _, gradient, _ = summed_gradients(case.module, "lora", tree, frozen, batch, jax.random.key(0))
  query = gradient["layers"]["attention"]["query"]
  assert query["a"].shape[-1] == 5 and not np.any(query["a"][0, :, 3:]) and not np.any(query["b"][2, 3:])
  assert np.any(query["a"][1, :, 3:]) and np.any(query["b"][1, 3:])
