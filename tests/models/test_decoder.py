"""The decoder: SmolLM2 against PyTorch, packing, the cached path, heads, rematerialisation, axis names."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from flax import linen as nn

from fiat_jax.models import decoder, lora
from fiat_jax.models.attention import KV
from fiat_jax.models.decoder import Decoder

PROMPTS = range(5)
TOLERANCE = 2e-3  # of logits up to 36; measured 1e-4


@pytest.fixture(scope="module")
def arrays(golden: Path):
  return dict(np.load(golden / "smollm2_logits.npz"))


def check(logits: np.ndarray, arrays: dict[str, np.ndarray], prompt: int) -> None:
  """Compares one prompt's logits [S, V] with PyTorch's: all at the last position, some columns at the others."""
  wanted = arrays[f"{prompt}.column_logits"]
  np.testing.assert_allclose(logits[:, arrays["columns"]], wanted, atol=TOLERANCE, rtol=0)
  np.testing.assert_allclose(logits[-1], arrays[f"{prompt}.last_logits"], atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("prompt", PROMPTS)
def test_smollm2_logits_equal_those_of_pytorch(smollm2, arrays, prompt: int):
  ids = arrays[f"{prompt}.ids"]
  check(tiny.logits_of(smollm2.module, {"params": smollm2.params}, ids, len(ids)), arrays, prompt)


def test_smollm2_logits_are_the_same_in_a_padded_batch(smollm2, arrays):
  prompts = [arrays[f"{n}.ids"] for n in PROMPTS]
  rows = tiny.rows_of(prompts, 128, padding=7)
  logits = np.asarray(tiny.forward(smollm2.module, {"params": smollm2.params}, *rows))
  for n in PROMPTS:
    check(logits[n, : len(prompts[n])], arrays, n)


def test_smollm2_logits_are_the_same_packed_into_one_row(smollm2, arrays):
  prompts = [arrays[f"{n}.ids"] for n in PROMPTS]
  tokens, positions, segments = np.zeros((3, 1, 272), np.int32)
  starts = np.cumsum([0, *map(len, prompts)])
  for n, start, stop in zip(PROMPTS, starts, starts[1:], strict=False):
    tokens[0, start:stop], positions[0, start:stop], segments[0, start:stop] = prompts[n], range(stop - start), n + 1
  logits = np.asarray(tiny.forward(smollm2.module, {"params": smollm2.params}, tokens, positions, segments))[0]
  for n, start, stop in zip(PROMPTS, starts, starts[1:], strict=False):
    check(logits[start:stop], arrays, n)


def test_smollm2_has_as_many_parameters_as_published(smollm2):
  assert lora.count(smollm2.params) == 134_515_008


def test_target_logits_are_those_before_each_target(tiny_model):
  tokens, positions, segments = tiny.rows_of([tiny.random_ids(9, 1), tiny.random_ids(12, 2)], 16)
  index = np.array([[3, 5, 7], [0, 10, 0]], np.int32)
  batch = {"tokens": tokens, "positions": positions, "segments": segments, "target_index": index}
  variables = {"params": tiny_model.params}
  some = tiny_model.module.apply(variables, batch, method="target_logits")
  every = np.asarray(tiny.forward(tiny_model.module, variables, tokens, positions, segments))
  np.testing.assert_allclose(some, np.take_along_axis(every, index[:, :, None], axis=1), atol=1e-5)


@pytest.mark.parametrize("prefill", [1, 5])
def test_the_cached_path_gives_the_training_path_s_logits(tiny_model, prefill: int):
  """Two rows, of which the second is two tokens behind, so that they write to different places."""
  module, config, room, lag = tiny_model.module, tiny.CONFIG, 16, 2
  rows = [tiny.random_ids(14, 3), tiny.random_ids(14, 4)]
  wanted = [tiny.logits_of(module, {"params": tiny_model.params}, ids) for ids in rows]
  cache = [KV(jnp.zeros((2, 2, 8, room)), jnp.zeros((2, 2, room, 8))) for _ in range(config.layers)]
  hidden_of = jax.jit(decoder.cached_hidden, static_argnums=0)

  lengths = [prefill + lag, prefill]
  for row, length in enumerate(lengths):
    tokens, positions = np.asarray([rows[row][:length]]), np.arange(length)[None]
    hidden, filled = hidden_of(
      module, tiny_model.layers, tokens, positions, np.tril(np.ones((1, length, length), bool))
    )
    logits = decoder.cached_logits(module, tiny_model.layers, hidden)
    np.testing.assert_allclose(logits[0], wanted[row][:length], atol=1e-4)
    for n, kv in enumerate(filled):
      cache[n] = KV(cache[n].k.at[row, :, :, :length].set(kv.k[0]), cache[n].v.at[row, :, :length].set(kv.v[0]))

  for _ in range(14 - prefill - lag):
    places = np.asarray(lengths)[:, None]
    tokens = np.asarray([[rows[row][length]] for row, length in enumerate(lengths)])
    mask = np.arange(room)[None, None] <= places[:, :, None]
    hidden, cache = hidden_of(module, tiny_model.layers, tokens, places, mask, cache, places)
    logits = decoder.cached_logits(module, tiny_model.layers, hidden)
    for row, length in enumerate(lengths):
      np.testing.assert_allclose(logits[row, 0], wanted[row][length], atol=1e-4)
    lengths = [length + 1 for length in lengths]


def test_a_tied_head_is_the_embedding(tiny_model):
  tied = Decoder(dataclasses.replace(tiny.CONFIG, tied_head=True))
  params = {name: leaf for name, leaf in tiny_model.params.items() if name != "head"}
  same = {**params, "head": {"kernel": params["embedding"].T}}
  ids = tiny.random_ids(20, 5)
  logits = tiny.logits_of(tied, {"params": params}, ids)
  np.testing.assert_allclose(logits, tiny.logits_of(tiny_model.module, {"params": same}, ids), atol=1e-4)
  unlike = tiny.logits_of(tiny_model.module, {"params": tiny_model.params}, ids)
  assert np.abs(logits - unlike).max() > 0.1
  layers = decoder.unstack({"params": params}, tiny.CONFIG.layers)
  hidden = np.random.default_rng(6).normal(size=(1, tiny.CONFIG.width)).astype(np.float32)
  np.testing.assert_allclose(decoder.cached_logits(tied, layers, hidden), hidden @ params["embedding"].T, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("policy", ["dots", "full"])
def test_rematerialisation_changes_neither_names_nor_numbers(tiny_model, policy):
  rows = tiny.rows_of([tiny.random_ids(20, 7)], 24)
  adapter_config = lora.LoraConfig(rank=2, targets=tiny.ALL_LINEAR, dropout=0.3)
  adapter = tiny.random_adapter(tiny_model.params, adapter_config)

  def loss(variables, remat: str):
    module = Decoder(tiny.CONFIG, adapter_config, remat=remat)
    rngs = {"dropout": jax.random.key(1)}
    logits = module.apply(variables, *rows, method="init_all", rngs=rngs)
    return jnp.mean(jax.nn.log_softmax(logits)[..., 3])

  variables = {"params": tiny_model.params, "lora": adapter}
  plain, gradient = jax.jit(jax.value_and_grad(loss), static_argnums=1)(variables, "none")
  again, regained = jax.jit(jax.value_and_grad(loss), static_argnums=1)(variables, policy)
  np.testing.assert_allclose(plain, again, rtol=1e-6)
  scale = max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(gradient))
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6 * scale), gradient, regained)


def test_every_parameter_carries_logical_axis_names():
  ids = jnp.zeros((1, 1), jnp.int32)
  init = lambda key: Decoder(tiny.CONFIG).init(key, ids, ids, ids, method="init_all")  # noqa: E731
  boxed = jax.eval_shape(init, jax.random.key(0))["params"]
  found = jax.tree.map(lambda box: box.names, boxed, is_leaf=lambda leaf: isinstance(leaf, nn.LogicallyPartitioned))
  assert found == {
    "embedding": ("vocab", "embed"),
    "final_norm": {"scale": ("norm",)},
    "head": {"kernel": ("embed", "vocab")},
    "layers": {
      "attention": {
        "query": {"kernel": ("layers", "embed", "heads")},
        "key": {"kernel": ("layers", "embed", "kv")},
        "value": {"kernel": ("layers", "embed", "kv")},
        "out": {"kernel": ("layers", "heads", "embed")},
      },
      "attention_norm": {"scale": ("layers", "norm")},
      "ffn": {
        "gate": {"kernel": ("layers", "embed", "mlp")},
        "up": {"kernel": ("layers", "embed", "mlp")},
        "down": {"kernel": ("layers", "mlp", "embed")},
      },
      "ffn_norm": {"scale": ("layers", "norm")},
    },
  }


def test_bfloat16_computes_near_float32(tiny_model):
  ids = tiny.random_ids(20, 8)
  half = Decoder(dataclasses.replace(tiny.CONFIG, dtype="bfloat16"))
  params = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), tiny_model.params)
  exact = tiny.logits_of(tiny_model.module, {"params": tiny_model.params}, ids)
  near = tiny.logits_of(half, {"params": params}, ids)
  assert near.dtype == np.float32
  assert np.abs(near - exact).max() < 0.05 * np.abs(exact).max()


def test_bfloat16_logits_are_summed_and_kept_in_f32_by_a_head_of_its_own_too(tiny_model):
  half = Decoder(dataclasses.replace(tiny.CONFIG, dtype="bfloat16"))
  params = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), tiny_model.params)
  hidden = jax.random.normal(jax.random.key(0), (5, tiny.CONFIG.width), jnp.bfloat16)
  exact = np.float64(hidden) @ np.float64(params["head"]["kernel"])
  logits: Any = half.apply({"params": params}, hidden, method="logits")
  np.testing.assert_allclose(logits, exact, atol=1e-5)
