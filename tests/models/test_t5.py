"""The encoder–decoders against PyTorch and PEFT, packing, adapters in either stack, the cached path, axis names."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import t5 as small
from flax import linen as nn

from fiat_jax.models import adapters, lora, t5_cached
from fiat_jax.models.attention import KV
from fiat_jax.models.lora import LoraConfig
from fiat_jax.models.relative import relative_buckets
from fiat_jax.models.t5 import T5
from fiat_jax.models.t5_registry import t5_shapes
from fiat_jax.training.step import target_loss

TOLERANCE = 1e-4
ADAPTED = LoraConfig(rank=2, alpha=3.0)


pytestmark = [pytest.mark.slow, pytest.mark.compiled_quickly]


@pytest.fixture(scope="module", params=small.CASES)
def case(request) -> str:
  return request.param


@pytest.fixture(scope="module")
def models(tmp_path_factory):
  folder = tmp_path_factory.mktemp("t5")
  return {case: small.load(small.write_checkpoint(folder / case, case)) for case in small.CASES}


@pytest.fixture(scope="module")
def model(models, case):
  return models[case]


def pairs(case: str):
  return small.script().batch(case)


def mean_loss(module: T5, variables, batch) -> jax.Array:
  return target_loss(module, variables, batch, {}) / jnp.sum(batch["target_weights"])


def test_buckets_equal_those_of_pytorch():
  places, golden = np.arange(-300, 301), small.recorded("buckets")
  assert len(golden) == 10
  for name, wanted in golden.items():
    buckets, limit, both = map(int, name.split("."))
    got = relative_buckets(np.zeros(1, int), places, buckets=buckets, max_distance=limit, bidirectional=bool(both))
    np.testing.assert_array_equal(got[0], wanted)


def test_encoder_states_equal_those_of_pytorch(model, case):
  module, params = model
  batch, golden = small.rows_of(pairs(case), 160, 24), small.recorded(case)
  encode = jax.jit(lambda *rows: module.apply({"params": params}, *rows, method="encode"))
  states = encode(batch["encoder_tokens"], batch["encoder_segments"])
  for n, (source, _) in enumerate(pairs(case)):
    np.testing.assert_allclose(states[n, : len(source)], golden[f"encoded.{n}"], atol=TOLERANCE)


def test_logits_equal_those_of_pytorch(model, case):
  module, params = model
  logits, golden = small.forward(module, {"params": params}, small.rows_of(pairs(case), 160, 24)), small.recorded(case)
  for n, (_, target) in enumerate(pairs(case)):
    assert np.ptp(golden[f"logits.{n}"]) > 3
    np.testing.assert_allclose(logits[n, : len(target)], golden[f"logits.{n}"], atol=TOLERANCE)


def test_loss_and_adapter_gradients_equal_those_of_peft(model, case):
  base, params = model
  module, golden = T5(base.config, ADAPTED), small.recorded(case)
  adapter = small.adapter_of(case, small.script().adapter(case), module)
  batch = small.rows_of(pairs(case), 160, 24)
  loss_of = jax.jit(jax.value_and_grad(lambda tree: mean_loss(module, {"params": params, "lora": tree}, batch)))
  loss, gradient = loss_of(adapter)
  assert abs(loss - golden["loss"]) < TOLERANCE
  gradients = {name.removeprefix("gradient."): leaf for name, leaf in golden.items() if name.startswith("gradient.")}
  wanted = small.adapter_of(case, gradients, module)
  assert jax.tree.structure(wanted) == jax.tree.structure(gradient)

  def check(got, want):
    np.testing.assert_allclose(got, want, atol=TOLERANCE * min(1.0, np.abs(want).max()))
    assert np.abs(want).max() > 1e-4

  jax.tree.map(check, gradient, wanted)


def test_gradients_equal_finite_differences_in_float64(models):
  """Of every kind of parameter, along random directions."""
  base, params = models["t5_1_1"]
  with jax.enable_x64(True):
    module = T5(dataclasses.replace(base.config, dtype="float64"), ADAPTED)
    adapter = small.adapter_of("t5_1_1", small.script().adapter("t5_1_1"), module)
    wide = lambda tree: jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf), jnp.float64), tree)  # noqa: E731
    variables = wide({"params": params, "lora": adapter})
    batch = small.rows_of(pairs("t5_1_1")[1:], 40, 16)
    loss = jax.jit(lambda tree: mean_loss(module, tree, batch))
    gradient, generator, epsilon = jax.jit(jax.grad(loss))(variables), np.random.default_rng(0), 1e-6
    for path, leaf in jax.tree_util.tree_leaves_with_path(gradient):
      direction = generator.normal(size=leaf.shape)

      def moved(by, path=path, direction=direction):
        return jax.tree_util.tree_map_with_path(lambda at, x: x + by * direction if at == path else x, variables)

      slope = (loss(moved(epsilon)) - loss(moved(-epsilon))) / (2 * epsilon)
      np.testing.assert_allclose(np.sum(leaf * direction), slope, rtol=1e-6, atol=1e-8, err_msg=str(path))


def test_a_packed_batch_has_each_pair_s_own_loss(model, case):
  module, params = model
  pairs_, variables = pairs(case), {"params": params}
  generator = np.random.default_rng(0)
  pairs_ += [(generator.integers(2, 99, n), generator.integers(2, 99, m)) for n, m in ((20, 5), (33, 7))]
  order = [[0, 3], [4, 1, 2]]
  losses = lambda batch: jax.nn.log_softmax(small.forward(module, variables, batch))  # noqa: E731
  together = losses(small.packed([[pairs_[n] for n in row] for row in order], 192, 32))
  alone = losses(small.rows_of(pairs_, 160, 24))
  for r, row in enumerate(order):
    start = 0
    for n in row:
      target = pairs_[n][1]
      places = np.arange(len(target))
      packed_ = np.asarray(together[r, start + places, target]).sum()
      np.testing.assert_allclose(packed_, np.asarray(alone[n, places, target]).sum(), rtol=1e-5)
      start += len(target)


def test_a_merged_adapter_gives_the_unmerged_logits(models):
  case = "t5_1_1"
  base, params = models[case]
  module, batch = T5(base.config, ADAPTED), small.rows_of(pairs(case), 160, 24)
  adapter = small.adapter_of(case, small.script().adapter(case), module)
  unmerged = small.forward(module, {"params": params, "lora": adapter}, batch)
  merged = small.forward(base, {"params": adapters.merge(params, adapter, ADAPTED)}, batch)
  np.testing.assert_allclose(merged, unmerged, atol=2e-4)
  assert np.abs(unmerged - small.forward(base, {"params": params}, batch)).max() > 0.1


@pytest.mark.parametrize(
  ("targets", "chosen"),
  [
    (
      lora.ATTENTION_QUERY_VALUE,
      {"encoder": {"attention"}, "decoder": {"self_attention", "cross_attention"}},
    ),
    (r"encoder/.*attention/(query|value)", {"encoder": {"attention"}}),
    (r"decoder/.*attention/(query|value)", {"decoder": {"self_attention", "cross_attention"}}),
    (r"decoder/.*cross_attention/(query|value)", {"decoder": {"cross_attention"}}),
  ],
)
def test_targets_choose_stacks_and_attentions(model, targets, chosen):
  module, _ = model
  adapter = lora.init_adapter(jax.random.key(0), t5_shapes(module.config), LoraConfig(targets=targets))
  assert {stack: set(node["layers"]) for stack, node in adapter.items()} == chosen
  for node in adapter.values():
    assert all(set(attention) == {"query", "value"} for attention in node["layers"].values())


@pytest.mark.parametrize("stacks", [("encoder", "decoder"), ("decoder",)])
def test_the_cached_path_gives_the_training_path_s_logits(models, stacks):
  """With an adapter in one stack or both, rows of different lengths, the second two tokens behind."""
  base, params = models["t5_1_1"]
  module, rows = T5(base.config, ADAPTED), pairs("t5_1_1")[:2]
  c, room, lag = module.config, 20, 2
  adapter = small.adapter_of("t5_1_1", small.script().adapter("t5_1_1"), module)
  adapter = {stack: adapter[stack] for stack in stacks}
  batch = small.rows_of(rows, 160, 24)
  wanted = np.asarray(small.forward(module, {"params": params, "lora": adapter}, batch))
  weights = t5_cached.unstack({"params": params, "lora": adapter})
  lengths = np.array([len(source) for source, _ in rows])
  encoded = t5_cached.encode(module, weights, batch["encoder_tokens"], lengths)
  cross = t5_cached.cross(module, weights, encoded)
  empty = lambda *shape: jnp.zeros((2, c.heads, *shape))  # noqa: E731
  cache = [KV(empty(c.head_dim, room), empty(room, c.head_dim)) for _ in range(c.decoder_layers)]

  @jax.jit
  def step(tokens, at, cache):
    mask = np.arange(room)[None, None] <= at[:, :, None]
    hidden, cache = t5_cached.cached_hidden(module, weights, tokens, at, mask, cross, lengths, cache)
    return t5_cached.logits(module, weights, hidden[:, 0]), cache

  for place in range(len(rows[0][1])):
    places = np.maximum(np.array([place, place - lag]), 0)
    tokens = batch["decoder_tokens"][[0, 1], places]
    logits, cache = step(tokens[:, None], places[:, None], cache)
    np.testing.assert_allclose(logits, wanted[[0, 1], places], atol=TOLERANCE)


@pytest.mark.parametrize("policy", ["full", pytest.param("dots", marks=pytest.mark.slow)])
def test_rematerialisation_changes_neither_names_nor_numbers(models, policy):
  base, params = models["mt5"]
  batch = small.rows_of(pairs("mt5"), 160, 24)
  plain, again = (
    jax.jit(jax.value_and_grad(lambda tree, remat=remat: mean_loss(T5(base.config, remat=remat), tree, batch)))(
      {"params": params}
    )
    for remat in ("none", policy)
  )
  np.testing.assert_allclose(plain[0], again[0], rtol=1e-6)
  scale = max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(plain[1]))
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6 * scale), plain[1], again[1])


def test_every_parameter_carries_logical_axis_names(models):
  module, _ = models["t5_1_1"]
  batch = small.rows_of(pairs("t5_1_1"), 160, 24)
  boxed = jax.eval_shape(lambda key: module.init(key, batch, method="init_all"), jax.random.key(0))["params"]
  found = jax.tree.map(lambda box: box.names, boxed, is_leaf=lambda leaf: isinstance(leaf, nn.LogicallyPartitioned))
  into, norm = {"kernel": ("layers", "embed", "heads")}, {"scale": ("layers", "norm")}
  attention = {"query": into, "key": into, "value": into, "out": {"kernel": ("layers", "heads", "embed")}}
  up = {"kernel": ("layers", "embed", "mlp")}
  ffn = {"gate": up, "up": up, "down": {"kernel": ("layers", "mlp", "embed")}}
  outer = {"relative_bias": ("heads", "buckets"), "final_norm": {"scale": ("norm",)}}
  names = ("self_attention", "cross_attention")
  assert found == {
    "embedding": ("vocab", "embed"),
    "head": {"kernel": ("embed", "vocab")},
    "encoder": {
      **outer,
      "layers": {"attention": attention, "attention_norm": norm, "ffn": ffn, "ffn_norm": norm},
    },
    "decoder": {
      **outer,
      "layers": {
        **dict.fromkeys(names, attention),
        **{f"{name}_norm": norm for name in names},
        "ffn": ffn,
        "ffn_norm": norm,
      },
    },
  }


def test_t5_1_1_small_has_as_many_parameters_as_published():
  from fiat_jax.models.t5 import T5Config

  config = T5Config(
    vocab_size=32128, width=512, encoder_layers=8, decoder_layers=8, heads=6, head_dim=64, ffn_width=1024
  )
  assert lora.count(t5_shapes(config)) == 76_961_152


def test_bfloat16_computes_near_float32(models):
  case = "t5_1_0"
  module, params = models[case]
  batch = small.rows_of(pairs(case), 160, 24)
  half = T5(dataclasses.replace(module.config, dtype="bfloat16"))
  rounded = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), params)
  exact, near = (
    np.asarray(small.forward(*args, batch)) for args in ((module, {"params": params}), (half, {"params": rounded}))
  )
  assert near.dtype == np.float32
  assert np.abs(near - exact).max() < 0.15 * np.abs(exact).max()


def test_bfloat16_logits_are_summed_and_kept_in_f32(models):
  module, params = models["t5_1_1"]
  half = T5(dataclasses.replace(module.config, dtype="bfloat16"))
  params = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.bfloat16), params)
  hidden = jax.random.normal(jax.random.key(0), (5, module.config.width), jnp.bfloat16)
  logits: Any = half.apply({"params": params}, hidden, method="logits")
  np.testing.assert_allclose(logits, np.float64(hidden) @ np.float64(params["head"]["kernel"]), atol=1e-5, rtol=1e-6)
