"""LoRA: an untrained adapter is nothing, a merged one is itself, and its gradients are PEFT's."""

from __future__ import annotations

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from golden_script import golden_script

from fiat_jax.data.packing import Example, Shape
from fiat_jax.data.sequences import pack
from fiat_jax.decoding.engine import Engine
from fiat_jax.decoding.request import Request
from fiat_jax.errors import UserError
from fiat_jax.models import adapters, decoder, lora
from fiat_jax.models.decoder import Decoder
from fiat_jax.models.family import family_of
from fiat_jax.models.lora import LoraConfig
from fiat_jax.models.t5 import T5, T5Config
from fiat_jax.training.step import summed_gradients

pytestmark = pytest.mark.compiled_quickly

EVERYWHERE = LoraConfig(rank=4, alpha=6.0, targets=tiny.ALL_LINEAR)
IDS = tiny.random_ids(24, 1)
TOLERANCE = 1e-4  # of a gradient, in units of its largest element, all below 1; measured 2e-5, and 3e-6 of the loss


def test_an_untrained_adapter_leaves_every_logit_bit_for_bit(tiny_model):
  adapter = lora.init_adapter(jax.random.key(0), tiny_model.params, EVERYWHERE)
  base = tiny.logits_of(tiny_model.module, {"params": tiny_model.params}, IDS)
  module = Decoder(tiny.CONFIG, EVERYWHERE)
  np.testing.assert_array_equal(tiny.logits_of(module, {"params": tiny_model.params, "lora": adapter}, IDS), base)
  np.testing.assert_array_equal(tiny.logits_of(module, {"params": tiny_model.params}, IDS), base)


def test_an_untrained_adapter_leaves_smollm2_bit_for_bit(smollm2):
  config = LoraConfig()
  adapter = lora.init_adapter(jax.random.key(0), smollm2.params, config)
  base = tiny.logits_of(smollm2.module, {"params": smollm2.params}, IDS)
  adapted = Decoder(smollm2.module.config, config)
  np.testing.assert_array_equal(tiny.logits_of(adapted, {"params": smollm2.params, "lora": adapter}, IDS), base)
  assert lora.count(adapter) == 460_800  # 30 layers of 8 · (576 + 576) for queries, 8 · (576 + 192) for values


def test_a_merged_adapter_gives_the_unmerged_logits(tiny_model):
  adapter = tiny.random_adapter(tiny_model.params, EVERYWHERE)
  module, variables = Decoder(tiny.CONFIG, EVERYWHERE), {"params": tiny_model.params, "lora": adapter}
  merged = adapters.merge(tiny_model.params, adapter, EVERYWHERE)
  unmerged = tiny.logits_of(module, variables, IDS)
  np.testing.assert_allclose(tiny.logits_of(tiny_model.module, {"params": merged}, IDS), unmerged, atol=2e-4)
  assert np.abs(unmerged - tiny.logits_of(tiny_model.module, {"params": tiny_model.params}, IDS)).max() > 0.5


def test_a_merge_in_bfloat16_is_computed_in_f32_and_rounded_once(tiny_model):
  params = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), tiny_model.params)
  adapter = tiny.random_adapter(params, EVERYWHERE)
  merged = adapters.merge(params, adapter, EVERYWHERE)
  find = lambda tree: tree["layers"]["attention"]["query"]  # noqa: E731
  wide, pair = np.asarray(find(params)["kernel"], np.float32), find(adapter)
  change = EVERYWHERE.scale * np.einsum("lir,lro->lio", np.float32(pair["a"]), np.float32(pair["b"]))
  found = np.asarray(find(merged)["kernel"])
  once, twice = (wide + change).astype(found.dtype), wide.astype(found.dtype) + change.astype(found.dtype)
  unequal = lambda other: (found != other).mean()  # noqa: E731
  assert unequal(once) < 0.001 < unequal(twice), "sums in another order may round the other way, once in a while"


def test_the_cached_path_applies_an_adapter_merged_or_not(tiny_model):
  adapter = tiny.random_adapter(tiny_model.params, EVERYWHERE)
  module, merged = Decoder(tiny.CONFIG, EVERYWHERE), adapters.merge(tiny_model.params, adapter, EVERYWHERE)
  wanted = tiny.logits_of(module, {"params": tiny_model.params, "lora": adapter}, IDS)
  n, layers = len(IDS), tiny.CONFIG.layers
  seen = np.tril(np.ones((1, n, n), bool))
  for weights in (
    decoder.with_adapter(tiny_model.layers, adapter),
    decoder.unstack({"params": tiny_model.params, "lora": adapter}, layers),
    decoder.unstack({"params": merged}, layers),
  ):
    hidden, _ = decoder.cached_hidden(module, weights, np.asarray([IDS]), np.arange(n)[None], seen)
    np.testing.assert_allclose(decoder.cached_logits(module, weights, hidden)[0], wanted, atol=2e-4)


def test_the_engine_decodes_with_the_adapter(tiny_model):
  adapter = tiny.random_adapter(tiny_model.params, EVERYWHERE)
  module, request = Decoder(tiny.CONFIG, EVERYWHERE), Request(tokens=IDS, max_new_tokens=8)
  weights = decoder.with_adapter(tiny_model.layers, adapter)
  (completion,) = Engine(module, weights, stop_ids=[], slots=2).generate([request])
  variables = {"params": tiny_model.params, "lora": adapter}
  logits = tiny.logits_of(module, variables, [*IDS, *completion.tokens])
  assert completion.tokens == logits[len(IDS) - 1 : -1].argmax(-1).tolist()


@pytest.mark.parametrize("targets", ["q_proj", "head"])
def test_targets_that_match_nothing_are_named_with_what_there_is(tiny_model, targets: str):
  with pytest.raises(UserError) as fault:
    lora.init_adapter(jax.random.key(0), tiny_model.params, LoraConfig(targets=targets))
  for text in (f"'{targets}'", "layers/attention/query", "layers/ffn/down"):
    assert text in str(fault.value)


def test_a_head_of_its_own_gets_no_adapter_whatever_the_targets(tiny_model):
  """It would be applied by no forward pass, and merged all the same."""
  every = LoraConfig(targets=".*")
  adapter = lora.init_adapter(jax.random.key(0), tiny_model.params, every)
  assert "head" in tiny_model.params and set(adapter) == {"layers"}
  sizes = {"encoder_layers": 1, "decoder_layers": 1, "heads": 2, "head_dim": 4, "ffn_width": 12}
  shapes = family_of(T5(T5Config(vocab_size=20, width=8, **sizes))).shapes()
  assert "head" in shapes and {path.split("/")[0] for path, _ in lora.targeted(shapes, every)} == {"encoder", "decoder"}


@pytest.mark.parametrize(
  ("targets", "chosen"),
  [
    (lora.ATTENTION_QUERY_VALUE, {"attention": {"query", "value"}}),
    ("layers/ffn/gate", {"ffn": {"gate"}}),
    (tiny.ALL_LINEAR, {"attention": {"query", "key", "value", "out"}, "ffn": {"gate", "up", "down"}}),
  ],
)
def test_targets_are_a_regular_expression_over_paths(tiny_model, targets: str, chosen: dict[str, set[str]]):
  adapter = lora.init_adapter(jax.random.key(0), tiny_model.params, LoraConfig(rank=3, targets=targets))
  assert {name: set(node) for name, node in adapter["layers"].items()} == chosen
  assert set(adapter) == {"layers"}
  sizes = 0
  for block, names in chosen.items():
    for name in names:
      layers, inputs, outputs = tiny_model.params["layers"][block][name]["kernel"].shape
      node = adapter["layers"][block][name]
      assert node["a"].shape == (layers, inputs, 3) and node["b"].shape == (layers, 3, outputs)
      assert not node["b"].any()
      sizes += layers * 3 * (inputs + outputs)
  assert lora.count(adapter) == sizes


def test_a_has_variance_one_over_its_inputs_and_differs_everywhere(tiny_model):
  adapter = lora.init_adapter(jax.random.key(0), tiny_model.params, LoraConfig(rank=64, targets=tiny.ALL_LINEAR))
  down, gate = adapter["layers"]["ffn"]["down"]["a"], adapter["layers"]["ffn"]["gate"]["a"]
  np.testing.assert_allclose([down.std(), gate.std()], [48**-0.5, 32**-0.5], rtol=0.05)
  layers = [np.asarray(layer) for layer in (*down[:, :32], *gate[:, :32])]
  assert all(not np.array_equal(layers[i], layers[j]) for i in range(6) for j in range(i))


def test_the_adapter_s_share_is_alpha_over_rank(tiny_model):
  """Twice alpha is twice B; twice the rank, with zeros for the rest, is half of B."""
  config = LoraConfig(rank=2, alpha=3.0)
  adapter = tiny.random_adapter(tiny_model.params, config)

  def logits(config: LoraConfig, change):
    changed = jax.tree_util.tree_map_with_path(lambda path, leaf: change(path[-1].key, leaf), adapter)
    return tiny.logits_of(Decoder(tiny.CONFIG, config), {"params": tiny_model.params, "lora": changed}, IDS)

  def padded(name, leaf):
    return jnp.pad(leaf, [(0, 0), (0, 0), (0, 2)]) if name == "a" else jnp.pad(leaf, [(0, 0), (0, 2), (0, 0)])

  assert config.scale == 1.5
  wanted = logits(config, lambda name, leaf: leaf)
  half = lambda name, leaf: leaf / 2 if name == "b" else leaf  # noqa: E731
  np.testing.assert_allclose(logits(LoraConfig(rank=2, alpha=6.0), half), wanted, atol=1e-4)
  np.testing.assert_allclose(logits(LoraConfig(rank=4, alpha=6.0), padded), wanted, atol=1e-4)


def test_rank_stabilized_scaling_is_alpha_over_the_root_of_the_rank(tiny_model):
  config = LoraConfig(rank=16, alpha=6.0, scaling="root_rank")
  assert config.scale == 1.5
  same = LoraConfig(rank=16, alpha=24.0)
  variables = {"params": tiny_model.params, "lora": tiny.random_adapter(tiny_model.params, config)}
  stabilized, plain = (tiny.logits_of(Decoder(tiny.CONFIG, c), variables, IDS) for c in (config, same))
  np.testing.assert_array_equal(stabilized, plain)


def test_dropout_acts_only_with_a_key_and_is_the_same_for_the_same_key(tiny_model):
  config = LoraConfig(rank=4, dropout=0.5, targets=tiny.ALL_LINEAR)
  module = Decoder(tiny.CONFIG, config)
  variables = {"params": tiny_model.params, "lora": tiny.random_adapter(tiny_model.params, config)}
  still = Decoder(tiny.CONFIG, LoraConfig(rank=4, targets=tiny.ALL_LINEAR))

  @jax.jit
  def dropped(key):
    return module.apply(variables, *tiny.rows_of([IDS], 64), method="init_all", rngs={"dropout": key})

  without = tiny.forward(module, variables, *tiny.rows_of([IDS], 64))
  np.testing.assert_array_equal(without, tiny.forward(still, variables, *tiny.rows_of([IDS], 64)))
  first, again, other = (np.asarray(dropped(jax.random.key(seed))) for seed in (1, 1, 2))
  np.testing.assert_array_equal(first, again)
  assert np.abs(first - other).max() > 0.1 and np.abs(first - without).max() > 0.1


def test_dropout_leaves_the_base_model_alone(tiny_model):
  config = LoraConfig(rank=4, dropout=0.5, targets=tiny.ALL_LINEAR)
  adapter = lora.init_adapter(jax.random.key(0), tiny_model.params, config)
  module, rows = Decoder(tiny.CONFIG, config), tiny.rows_of([IDS], 64)
  variables, rngs = {"params": tiny_model.params, "lora": adapter}, {"dropout": jax.random.key(1)}
  dropped = jax.jit(lambda v: module.apply(v, *rows, method="init_all", rngs=rngs))(variables)
  np.testing.assert_array_equal(dropped, tiny.forward(tiny_model.module, {"params": tiny_model.params}, *rows))


@pytest.mark.parametrize(
  ("settings", "text"),
  [
    ({"rank": 0}, "rank of 0"),
    ({"dropout": 1.0}, "dropout of 1.0"),
    ({"targets": "("}, "'('"),
    ({"scaling": "none"}, "'none'"),
  ],
)
def test_settings_that_make_no_adapter_are_refused(settings: dict, text: str):
  with pytest.raises(UserError, match="LoRA") as fault:
    LoraConfig(**settings)
  assert text in str(fault.value)


def test_loss_and_gradients_of_smollm2_equal_those_of_peft(smollm2, golden: Path):
  """Three rows, packed into two microbatches of one row each, against PEFT's padded batch."""
  arrays, values = dict(np.load(golden / "smollm2_lora_gradients.npz")), _golden_values()
  adapter = {"layers": {"attention": {ours: _stacked(values, theirs) for ours, theirs in _NAMES.items()}}}
  examples = []
  for row, (ids, n, mask) in enumerate(zip(arrays["ids"], arrays["lengths"], arrays["target_mask"], strict=True)):
    start = int(mask.argmax())
    assert mask[start:n].all() and not mask[n:].any()
    examples.append(Example(ids[:start], ids[start:n], row))
  batch = pack(examples, Shape(rows=1, length=136, targets=32))
  assert batch.microbatches == 2

  module = Decoder(smollm2.module.config, LoraConfig(rank=8, alpha=16))
  step = jax.jit(summed_gradients, static_argnums=(0, 1))
  loss, gradient, tokens = step(module, "lora", adapter, {"params": smollm2.params}, batch, jax.random.key(0))
  assert tokens == arrays["target_mask"].sum()
  np.testing.assert_allclose(loss / tokens, arrays["loss"], atol=TOLERANCE, rtol=0)

  attention = jax.tree.map(lambda leaf: np.asarray(leaf / tokens), gradient["layers"]["attention"])
  for place, (ours, theirs) in enumerate(_NAMES.items()):
    for matrix, name in enumerate("AB"):
      got = attention[ours][name.lower()].transpose(0, 2, 1)
      norms = np.linalg.norm(got.reshape(30, -1), axis=1)
      np.testing.assert_allclose(norms, arrays["norms"][:, place, matrix], rtol=TOLERANCE)
      for layer in (0, 14, 29):
        wanted = arrays[f"gradient.{layer}.{theirs}.{name}"]
        bound = TOLERANCE * min(1.0, np.abs(wanted).max())
        np.testing.assert_allclose(got[layer], wanted, atol=bound, rtol=0)


_NAMES = {"query": "q", "value": "v"}


def _golden_values() -> dict[tuple[int, str, str], np.ndarray]:
  return {(layer, name, matrix): values for layer, name, matrix, values in golden_script("smollm2").lora_values()}


def _stacked(values: dict[tuple[int, str, str], np.ndarray], name: str) -> dict[str, jax.Array]:
  """PEFT's [out, in] matrices of all layers as ours."""
  return {m.lower(): jnp.asarray(np.stack([values[n, name, m].T for n in range(30)])) for m in "AB"}
