"""bf16 at the activations of a trained Flan-T5: large hidden states, a few channels of them huge, sharp attention."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import t5 as small

from fiat_jax.models.t5 import T5, T5Config

CONFIG = T5Config(
  vocab_size=512, width=256, encoder_layers=6, decoder_layers=6, heads=4, head_dim=64, ffn_width=512, tied_head=False
)
OUTLIERS = slice(0, 3)  # channels
PAIRS, SOURCE, TARGET = 12, 48, 32  # more positions than channels, so that some best tokens are nearly not the best
RIDGE = 1e-3


pytestmark = pytest.mark.slow  # most of it is compiling


def grown(params):
  """Random parameters with what training does to T5's: the stream grows to 10⁵ in some channels, scores get sharp."""

  def grow(path, leaf):
    names = [part.key for part in path]
    if "embedding" in names:
      return leaf * 10
    if "query" in names:
      return leaf * 3
    if "down" in names:
      return leaf * np.where(np.arange(leaf.shape[-1]) < OUTLIERS.stop, 30000.0, 30.0).astype(np.float32)
    if "scale" in names:  # norms hold the huge channels down
      return leaf * np.where(np.arange(leaf.shape[-1]) < OUTLIERS.stop, 0.002, 1.0).astype(np.float32)
    return leaf

  return jax.tree_util.tree_map_with_path(grow, params)


def rounded(params):
  return jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), params)


@pytest.fixture(scope="module")
def batch():
  generator = np.random.default_rng(1)
  return small.rows_of(
    [tuple(generator.integers(3, CONFIG.vocab_size, n) for n in (SOURCE, TARGET)) for _ in range(PAIRS)], SOURCE, TARGET
  )


@pytest.fixture(scope="module")
def params(batch):
  """The head is fitted to say another token at every position, but for the first, whose states hardly differ."""
  params = grown(small.random_params(CONFIG))
  hidden = np.asarray(jax.jit(T5(CONFIG).apply)({"params": params}, batch), np.float64).reshape(-1, CONFIG.width)
  said = np.where(np.arange(len(hidden)) % TARGET, np.arange(len(hidden)), 0)
  labels = np.eye(CONFIG.vocab_size)[said]
  gram = hidden.T @ hidden
  head = np.linalg.solve(gram + RIDGE * np.trace(gram) / len(gram) * np.eye(len(gram)), hidden.T @ labels)
  fitted = {**params, "head": {"kernel": (10 * head).astype(np.float32)}}
  return jax.tree.map(
    lambda leaf: np.asarray(leaf, np.float32), rounded(fitted)
  )  # both types start from the same numbers


def test_hidden_states_are_as_large_as_flan_t5_s(params, batch):
  model = T5(CONFIG).bind({"params": params})
  states = model.embed(batch["encoder_tokens"])
  mask = np.ones((PAIRS, SOURCE, SOURCE), bool)
  states, _ = model.encoder.layers(states, mask, np.zeros((1, CONFIG.heads, SOURCE, SOURCE), np.float32))
  assert np.abs(states).max() > 30_000  # fp16 ends at 65,504


def test_the_best_token_is_the_same_at_99_of_100_positions(params, batch):
  exact = np.asarray(small.forward(T5(CONFIG), {"params": params}, batch))
  half = T5(dataclasses.replace(CONFIG, dtype="bfloat16"))
  near = np.asarray(small.forward(half, {"params": rounded(params)}, batch))
  assert near.dtype == np.float32
  best = exact.argmax(-1)
  assert len(np.unique(best)) > 100
  assert (near.argmax(-1) == best).mean() >= 0.99


def test_a_coarser_type_would_be_seen(params, batch):
  exact = np.asarray(small.forward(T5(CONFIG), {"params": params}, batch))
  coarse = jax.tree.map(lambda leaf: jax.lax.reduce_precision(leaf, exponent_bits=8, mantissa_bits=4), params)
  near = np.asarray(small.forward(T5(CONFIG), {"params": coarse}, batch))
  assert (near.argmax(-1) == exact.argmax(-1)).mean() < 0.99
