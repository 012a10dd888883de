"""Quantized kernels: how far off they are, and that a model with them computes what its dequantized twin does."""

from __future__ import annotations

import dataclasses
import functools
import statistics
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import t5 as small
import tiny

from fiat_jax.checkpoints.load import load_params
from fiat_jax.checkpoints.source import open_checkpoint
from fiat_jax.data.packing import Shape
from fiat_jax.data.sequences import pack
from fiat_jax.decoding import slots
from fiat_jax.decoding.engine import Engine
from fiat_jax.decoding.family import family_of
from fiat_jax.decoding.request import Request
from fiat_jax.models import decoder, lora, quantized, registry, t5_cached
from fiat_jax.models.decoder import Decoder
from fiat_jax.models.families import decoder_config
from fiat_jax.models.lora import LoraConfig
from fiat_jax.models.t5 import T5
from fiat_jax.training import microbatch
from fiat_jax.training.step import summed_gradients, target_loss

pytestmark = pytest.mark.compiled_quickly

KINDS = ("int8", "nf4")
LORA = LoraConfig(rank=4, alpha=6.0, targets=".*attention/.*|.*ffn/.*")
ROUNDING = 2.0**-8  # of bf16; measured on a CPU: not a bit
TOLERANCE = 1e-5  # of logits up to 12 and of gradients up to 1, against the dequantized twin; measured 4e-6


def kernel_of(*shape: int, seed: int = 0) -> np.ndarray:
  """Normal with a few values far out, and an output that is zero."""
  generator = np.random.default_rng(seed)
  kernel = generator.normal(0, 0.05, shape) * (1 + 20 * (generator.random(shape) < 0.01))
  kernel[..., 3] = 0
  return kernel.astype(np.float32)


def levels() -> np.ndarray:
  """NF4's as QLoRA's authors compute them: quantiles of a normal distribution, its ends cut off at 0.9677083."""
  normal = statistics.NormalDist()
  above = [normal.inv_cdf(p) for p in np.linspace(0.9677083, 0.5, 9)[:-1]]
  below = [-normal.inv_cdf(p) for p in np.linspace(0.9677083, 0.5, 8)[:-1]]
  return np.array(sorted([*below, 0.0, *above])) / max(above)


def whole(tree: Any) -> Any:
  """Every quantized kernel dequantized in NumPy."""

  def of(leaf: Any) -> Any:
    if not quantized.is_quantized(leaf):
      return leaf
    codes, scale = np.asarray(leaf.qvalue), np.asarray(leaf.scale)
    values = levels()[codes.astype(int)] if leaf.qtype == "nf4" else codes.astype(np.float64)
    return jnp.asarray(values * scale.repeat(codes.shape[-2] // scale.shape[-2], axis=-2), jnp.float32)

  return jax.tree.map(of, tree, is_leaf=quantized.is_quantized)


def quantize_layers(params: Any, kind: str) -> Any:
  """The kernels of a tree's layers quantized."""

  def of(path: Any, leaf: Any) -> Any:
    names = [key.key for key in path]
    return quantized.quantize(leaf, kind) if "layers" in names and names[-1] == "kernel" else leaf

  return jax.tree_util.tree_map_with_path(of, params)


@pytest.mark.parametrize("shape", [(192, 40), (2, 64, 8), (48, 8), (11, 5)])
def test_int8_is_off_by_at_most_half_a_step_of_its_output(shape):
  kernel = kernel_of(*shape)
  found = np.asarray(quantized.whole(quantized.quantize(kernel, "int8"), jnp.float32))
  step = np.abs(kernel).max(axis=-2, keepdims=True) / 127.5
  assert (np.abs(found - kernel) <= 0.5001 * step).all() and np.abs(found - kernel).max() > 0


@pytest.mark.parametrize(("shape", "block"), [((192, 40), 64), ((2, 64, 8), 64), ((48, 8), 48), ((90, 8), 45)])
def test_nf4_takes_the_nearest_of_the_published_levels_times_the_blocks_largest(shape, block):
  kernel = kernel_of(*shape)
  leaf = quantized.quantize(kernel, "nf4")
  found = np.asarray(quantized.whole(leaf, jnp.float32))
  blocks = kernel.reshape(*shape[:-2], -1, block, shape[-1])
  largest = np.abs(blocks).max(axis=-2, keepdims=True)
  largest = np.where(largest == 0, 1, largest)
  nearest = np.abs(blocks[..., None] / largest[..., None] - levels()).min(axis=-1) * largest
  np.testing.assert_allclose(np.abs(found.reshape(blocks.shape) - blocks), nearest, atol=1e-6 * np.abs(kernel).max())
  assert leaf.scale.shape == (*shape[:-2], shape[-2] // block, shape[-1])
  np.testing.assert_allclose(sorted(set(np.round(np.asarray(whole(leaf) - found).ravel(), 6))), [0.0])


def decoder_only(kind: str) -> tuple[Any, Any, Any, Any]:
  """Module, quantized parameters, their dequantized twin, a microbatch of two packed examples."""
  params = quantize_layers(tiny.random_params(), kind)
  batch = pack(tiny.random_examples([(9, 4), (20, 7)]), Shape(rows=1, length=64, targets=16))
  micro = {name: value[0] for name, value in batch._asdict().items() if name != "microbatches"}
  return Decoder(tiny.CONFIG, LORA), params, whole(params), (batch, micro)


def encoder_decoder(kind: str) -> tuple[Any, Any, Any, Any]:
  config = small.script().CASES["t5_1_1"]
  config = small.t5_config(config, "", "float32")
  params = quantize_layers(small.random_params(config), kind)
  micro = small.rows_of([(np.arange(2, 20), np.arange(3, 9))], 64, 16)
  return T5(config, LORA), params, whole(params), (None, micro)


@pytest.mark.parametrize("family", [decoder_only, pytest.param(encoder_decoder, marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", KINDS)
def test_logits_and_gradients_are_those_of_the_dequantized_twin(family, kind):
  module, params, twin, (_, micro) = family(kind)
  adapter = tiny.random_adapter(params, LORA)
  assert jax.tree.map(jnp.shape, adapter) == jax.tree.map(jnp.shape, tiny.random_adapter(twin, LORA))

  @jax.jit
  def compute(params, adapter):
    logits = module.apply({"params": params, "lora": adapter}, micro, method="target_logits")
    loss = lambda adapter: target_loss(module, {"params": params, "lora": adapter}, micro, {})  # noqa: E731
    return logits, jax.grad(loss)(adapter)

  (ours, gradient), (wanted, their) = compute(params, adapter), compute(twin, adapter)
  np.testing.assert_allclose(ours, wanted, atol=TOLERANCE * np.abs(wanted).max())
  for leaf, other in zip(jax.tree.leaves(gradient), jax.tree.leaves(their), strict=True):
    np.testing.assert_allclose(leaf, other, atol=TOLERANCE * float(jnp.abs(other).max()))
    assert np.abs(other).max() > 0


@pytest.mark.parametrize("family", [decoder_only, pytest.param(encoder_decoder, marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", KINDS)
def test_in_bfloat16_logits_are_those_of_the_twin_but_for_its_own_rounding(family, kind):
  """Each kernel is rounded once, as the twin's is."""
  module, params, twin, (_, micro) = family(kind)
  rounded = module.clone(config=dataclasses.replace(module.config, dtype="bfloat16"))
  logits = lambda of, params: of.apply({"params": params}, micro, method="target_logits")  # noqa: E731
  exact, ours, wanted = (
    np.asarray(jax.jit(functools.partial(logits, of))(tree), np.float32)
    for of, tree in ((module, twin), (rounded, params), (rounded, twin))
  )
  np.testing.assert_allclose(ours, wanted, atol=ROUNDING * np.abs(wanted).max())
  assert np.abs(wanted - exact).max() > ROUNDING, "bf16 is told from f32"


@pytest.mark.parametrize("family", [decoder_only, encoder_decoder])
@pytest.mark.parametrize("kind", KINDS)
def test_the_engine_gives_the_tokens_of_the_dequantized_twin(family, kind):
  module, params, twin, _ = family(kind)
  adapter = tiny.random_adapter(params, LORA)
  requests = [Request(tokens=tiny.random_ids(n, seed=n), max_new_tokens=12) for n in (5, 30)]

  def answers(params):
    if isinstance(module, T5):
      weights = t5_cached.with_adapter(t5_cached.unstack({"params": params}), adapter)
    else:
      weights = decoder.with_adapter(decoder.unstack({"params": params}, module.config.layers), adapter)
    return Engine(module, weights, stop_ids=[], slots=2).generate(requests)

  for ours, wanted in zip(answers(params), answers(twin), strict=True):
    assert ours.tokens == wanted.tokens
    np.testing.assert_allclose(ours.logprobs, wanted.logprobs, atol=TOLERANCE * 12)


KERNELS = dataclasses.replace(
  tiny.CONFIG, vocab_size=8, width=128, layers=8, heads=2, kv_heads=2, head_dim=64, ffn_width=512, max_length=64
)  # a model that is mostly kernels: whole ones would take as much again


def temporary(lowered: Any) -> int:
  return lowered.compile().memory_analysis().temp_size_in_bytes


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_the_backward_pass_keeps_no_whole_kernels(kind):
  """Beside one layer's, that is. On a CPU 4 bits are laid out in a byte."""
  module, batch = Decoder(KERNELS, LORA), pack(tiny.random_examples([(9, 4)]), Shape(rows=1, length=16, targets=8))

  def taken(params):
    adapter = lora.init_adapter(jax.random.key(0), params, LORA)
    gradients = lambda params, adapter: summed_gradients(  # noqa: E731
      module, "lora", adapter, {"params": params}, batch, jax.random.key(0)
    )
    return temporary(jax.jit(gradients).lower(params, adapter))

  params = tiny.random_params(KERNELS)
  assert taken(quantize_layers(params, kind)) < taken(params) + 0.6 * microbatch.size(params["layers"])


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_decode_steps_keep_no_whole_kernels(kind):
  module, params = Decoder(KERNELS), tiny.random_params(KERNELS)
  family = family_of(module)
  weights = decoder.unstack({"params": quantize_layers(params, kind)}, KERNELS.layers)
  state = jax.eval_shape(lambda held: held, slots.empty_slots(family, 2, family.room(10, 20, 10)))
  lowered = slots.decode.lower(family, weights, state, np.ones(2, bool), jnp.array([5]), None, False, False)
  assert temporary(lowered) < 0.1 * microbatch.size(params["layers"])


@pytest.mark.parametrize("kind", KINDS)
def test_kernels_are_quantized_as_they_are_loaded_and_nothing_else_is(kind, tmp_path):
  params = tiny.random_params()
  folder = tiny.write_checkpoint(tmp_path, tiny.CONFIG, tiny.hugging_face_tensors(tiny.CONFIG, params))
  source = open_checkpoint(folder)
  config = decoder_config(source.config, str(folder), "float32")
  shapes = registry.parameter_shapes(config)
  loaded = load_params(source, registry.decoder_leaves(config), shapes, "float32", kernels=kind)
  wanted = quantize_layers(params, kind)
  assert jax.tree.structure(loaded) == jax.tree.structure(wanted)
  jax.tree.map(np.testing.assert_array_equal, loaded, wanted)
  assert lora.count(loaded) == lora.count(params) and not quantized.is_quantized(loaded["head"]["kernel"])


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "share"), [("int8", 1 / 4), ("nf4", 1 / 7.1)])
def test_smollm2s_kernels_take_a_quarter_or_a_seventh_of_their_bytes(smollm2, smollm2_path, kind, share):
  source, config = open_checkpoint(smollm2_path), smollm2.module.config
  leaves, shapes = registry.decoder_leaves(config), registry.parameter_shapes(config)
  params = load_params(source, leaves, shapes, config.dtype, kernels=kind)
  kernels = lambda tree: [kernel for _, kernel in lora.kernels(tree)]  # noqa: E731
  assert microbatch.size(kernels(params)) == pytest.approx(share * microbatch.size(kernels(smollm2.params)), rel=0.02)
