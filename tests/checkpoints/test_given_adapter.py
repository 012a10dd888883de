"""Adapters in PEFT's format, read: ours bit for bit, PEFT's other scales and ranks by the formula, and refusals."""

import json

import jax
import numpy as np
import pytest
import tiny
from safetensors.numpy import load_file, save_file

from fiat_jax.checkpoints import given_adapter
from fiat_jax.checkpoints.peft import write_adapter
from fiat_jax.errors import UserError
from fiat_jax.models import adapters
from fiat_jax.models.decoder_only import DecoderOnly
from fiat_jax.models.lora import LoraConfig

CONFIG = LoraConfig(rank=4, alpha=6.0, targets=tiny.ALL_LINEAR)
FAMILY = DecoderOnly(tiny.CONFIG)
WEIGHTS = "adapter_model.safetensors"
QUERY = "base_model.model.model.layers.{}.self_attn.q_proj.lora_{}.weight"


@pytest.fixture
def written(tmp_path, tiny_model):
  """An adapter of random A and B, and its folder."""
  adapter = tiny.random_adapter(tiny_model.params, CONFIG)
  write_adapter(tmp_path / "one", adapter, FAMILY, CONFIG, base="OWNER/NAME")
  return adapter, tmp_path / "one"


def change(folder, tensors=lambda found: None, **description):
  """Rewrites an adapter's tensors (in place) and its description."""
  found = load_file(folder / WEIGHTS)
  tensors(found)
  save_file(found, folder / WEIGHTS)
  file = folder / "adapter_config.json"
  file.write_text(json.dumps(json.loads(file.read_text()) | description))


def deltas(adapter, scale, path=()):
  """Every kernel's change, scale · A · B, by path."""
  if "a" in adapter:
    return {path: scale * np.asarray(adapter["a"], np.float64) @ np.asarray(adapter["b"], np.float64)}
  return {key: value for name, node in adapter.items() for key, value in deltas(node, scale, (*path, name)).items()}


def read_folded(given, scale):
  """The tree with what single layers are scaled by in B, as one scale of all has it."""
  found = given_adapter.read(given, FAMILY)
  return adapters.settled(tiny.random_params(), found.tree, LoraConfig(rank=1, alpha=scale), found.scales)


def test_ours_comes_back_bit_for_bit(written):
  adapter, folder = written
  read = given_adapter.read(str(folder), FAMILY).tree
  found, wanted = deltas(read, 1.0), deltas(adapter, 1.0)
  assert found.keys() == wanted.keys()
  for block, nodes in adapter["layers"].items():
    for name, node in nodes.items():
      for side in "ab":
        np.testing.assert_array_equal(read["layers"][block][name][side], node[side])


def test_scales_and_ranks_of_single_modules_are_peft_s(written):
  """alpha / √rank with rsLoRA, other ranks and alphas by pattern, a layer that is not adapted."""
  adapter, folder = written

  def narrower(tensors):
    for side, axis in (("A", 0), ("B", 1)):
      tensors[QUERY.format(1, side)] = np.ascontiguousarray(tensors[QUERY.format(1, side)].take([0, 1, 2], axis))
      del tensors[QUERY.format(0, side)]

  change(
    folder,
    narrower,
    exclude_modules=r"model\.layers\.0\.self_attn\.q_proj",
    use_rslora=True,
    alpha_pattern={"q_proj": 10},
    rank_pattern={r"layers\.1\.self_attn\.q_proj": 3},
  )
  read = read_folded(str(folder), 0.7)
  query, key = (read["layers"]["attention"][name] for name in ("query", "key"))
  ours = adapter["layers"]["attention"]
  wanted = 10 / 3**0.5 * np.asarray(ours["query"]["a"][1][:, :3], np.float64) @ np.asarray(ours["query"]["b"][1][:3])
  np.testing.assert_allclose(0.7 * query["a"][1] @ query["b"][1], wanted, rtol=1e-4, atol=1e-5)
  assert not (query["a"][0] @ query["b"][0]).any() and not query["a"][1, :, 3:].any()
  wanted = 6 / 2 * np.asarray(ours["key"]["a"][0], np.float64) @ np.asarray(ours["key"]["b"][0])
  np.testing.assert_allclose(0.7 * key["a"][0] @ key["b"][0], wanted, rtol=1e-4, atol=1e-5)


def test_several_are_added_up_by_weight(written, tmp_path, tiny_model):
  adapter, folder = written
  config = LoraConfig(rank=2, alpha=4.0, targets=".*attention/query")
  other = tiny.random_adapter(tiny_model.params, config)
  write_adapter(tmp_path / "two", other, FAMILY, config, base="OWNER/NAME")
  read = read_folded(f"{folder}:0.25, {tmp_path / 'two'}:-2", 1.5)
  first, second = deltas(adapter, 0.25 * CONFIG.scale), deltas(other, -2 * config.scale)
  for path, found in deltas(read, 1.5).items():
    np.testing.assert_allclose(found, first[path] + second.get(path, 0.0), rtol=1e-4, atol=1e-5)


def add(name, shape=(4, 4)):
  return lambda tensors: tensors.update({name: np.zeros(shape, np.float32)})


def without(name):
  return lambda tensors: tensors.pop(name)


REFUSED = {
  "magnitudes": ((), {"use_dora": True}, "has lora_A, lora_B alone: the file is incomplete"),
  "biases": ((), {"bias": "all"}, "is an adapter with biases"),
  "another kind": ((), {"peft_type": "LOHA"}, "is an adapter with LOHA"),
  "not its kind": ((), {"peft_type": "IA3"}, "it is of another kind than its description"),
  "unknown": ((add("base_model.model.model.layers.9.self_attn.q_proj.lora_A.weight"),), {}, "1 tensors belong to no"),
  "prefix": ((add("model.layers.0.self_attn.q_proj.lora_A.weight"),), {}, "is it an adapter of another base"),
  "half": ((without(QUERY.format(0, "B")),), {}, "layers.0.self_attn.q_proj has lora_A alone"),
  "shape": ((add(QUERY.format(0, "A"), (4, 31)),), {}, "do not fit this base's 32 inputs and 32 outputs"),
  "a module's": (
    (without(QUERY.format(0, "A")), without(QUERY.format(0, "B"))),
    {},
    "holds nothing for 1 of the modules",
  ),
  "no rank": ((), {"r": None}, "has r None: it is damaged"),
  "no effect": ((), {"lora_alpha": 0}, "has lora_alpha 0, with which the adapter changes nothing"),
  "no pattern": ((), {"alpha_pattern": {"(": 3}}, "holds '(', which is no regular expression"),
  "activated": ((), {"alora_invocation_tokens": [1, 2]}, "is an adapter with invocation tokens (aLoRA)"),
  "another begin": ((), {"init_lora_weights": "pissa_niter_4"}, "with a base that pissa_niter_4 has changed"),
  "rank": ((), {"r": 8}, "has rank 4, and adapter_config.json says 8"),
}


@pytest.mark.parametrize("fault", REFUSED)
def test_what_is_not_an_adapter_of_this_base_is_refused(fault, written):
  changes, description, message = REFUSED[fault]
  change(written[1], lambda tensors: [edit(tensors) for edit in changes], **description)
  with pytest.raises(UserError) as e:
    given_adapter.read(str(written[1]), FAMILY)
  assert message in str(e.value) and "one" in str(e.value)


@pytest.mark.parametrize("given", ["{0}:nan", "{0}:0", "{0},", "{0}:inf,{0}"])
def test_a_weight_that_is_none_is_refused(given, written):
  with pytest.raises(UserError, match="give FOLDER or FOLDER:WEIGHT"):
    given_adapter.read(given.format(written[1]), FAMILY)


def test_layers_and_modules_that_the_description_leaves_out_need_no_tensors(written):
  def first_alone(tensors):
    for name in [name for name in tensors if ".layers.0." not in name or "down_proj" in name]:
      del tensors[name]

  change(written[1], first_alone, layers_to_transform=[0], exclude_modules=["down_proj"])
  assert given_adapter.read(str(written[1]), FAMILY).ranks.keys()


def test_a_pickle_is_never_opened(written):
  (written[1] / WEIGHTS).rename(written[1] / "adapter_model.bin")
  with pytest.raises(UserError, match="holds its weights as a pickle, which may run any program"):
    given_adapter.read(str(written[1]), FAMILY)


def test_another_base_is_refused_by_its_fingerprint(tmp_path, tiny_model):
  adapter = tiny.random_adapter(tiny_model.params, CONFIG)
  write_adapter(tmp_path / "one", adapter, FAMILY, CONFIG, base="OWNER/NAME", fingerprint="abc")
  given_adapter.read(str(tmp_path / "one"), FAMILY, "abc")
  with pytest.raises(UserError, match="was trained on another base than this: 'OWNER/NAME'"):
    given_adapter.read(str(tmp_path / "one"), FAMILY, "abd")


def test_what_is_not_lora_is_neither_weighted_nor_added_up(tmp_path, tiny_model):
  config = LoraConfig(kind="ia3", targets=adapters.IA3_TARGETS)
  write_adapter(
    tmp_path / "ia3", adapters.fresh(jax.random.key(0), tiny_model.params, config), FAMILY, config, base="x"
  )
  assert given_adapter.read(str(tmp_path / "ia3"), FAMILY).kind == "ia3"
  with pytest.raises(UserError, match="LoRA and rsLoRA alone can be weighted and added up"):
    given_adapter.read(f"{tmp_path / 'ia3'}:0.5", FAMILY)
