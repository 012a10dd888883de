"""Attention against a plain softmax over all pairs, and its hand-written gradient against two others."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.test_util import check_grads

from fiat_jax.models.attention import BLOCK, KV, attend, segment_mask, window_mask, write


@jax.jit
def plain(q: jax.Array, k: jax.Array, v: jax.Array, mask: jax.Array) -> jax.Array:
  """Softmax attention of q [B, T, H, D], k and v [B, S, K, D] where mask [B, T, S] is true."""
  repeats = q.shape[2] // k.shape[2]
  k, v = jnp.repeat(k, repeats, axis=2), jnp.repeat(v, repeats, axis=2)
  scores = jnp.einsum("bthd,bshd->bhts", q, k) / np.sqrt(q.shape[-1])
  weights = jax.nn.softmax(jnp.where(mask[:, None], scores, -jnp.inf), axis=-1)
  return jnp.einsum("bhts,bshd->bthd", weights, v).reshape(*q.shape[:2], -1)


@functools.partial(jax.jit, static_argnums=4)
def ours(q: jax.Array, k: jax.Array, v: jax.Array, mask: jax.Array, causal: bool = False) -> jax.Array:
  return attend(q, KV(k.transpose(0, 2, 3, 1), v.transpose(0, 2, 1, 3)), mask, causal=causal)


def arrays(seed: int, batch: int, queries: int, keys: int, heads: int, kv_heads: int, dtype="float32", width: int = 8):
  generator = np.random.default_rng(seed)
  shapes = (batch, queries, heads, width), (batch, keys, kv_heads, width), (batch, keys, kv_heads, width)
  q, k, v = (jnp.asarray(generator.normal(size=shape), dtype) for shape in shapes)
  mask = generator.random((batch, queries, keys)) < 0.5
  mask[:, np.arange(queries), generator.integers(0, keys, queries)] = True  # every query sees something
  return q, k, v, jnp.asarray(mask)


def causal(mask: jax.Array) -> jax.Array:
  return (mask & jnp.tril(jnp.ones(mask.shape[1:], bool))) | jnp.eye(mask.shape[1], dtype=bool)


@settings(max_examples=15, deadline=None)
@given(
  seed=st.integers(0, 1000),
  queries=st.sampled_from([1, 3, 17]),
  keys=st.sampled_from([1, 5, 33]),
  heads=st.sampled_from([(4, 4), (4, 2), (6, 1)]),
)
def test_it_is_softmax_over_what_the_mask_allows(seed: int, queries: int, keys: int, heads: tuple[int, int]):
  q, k, v, mask = arrays(seed, 2, queries, keys, *heads)
  np.testing.assert_allclose(ours(q, k, v, mask), plain(q, k, v, mask), atol=2e-6)


@pytest.mark.parametrize("length", [1, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK + 45])
def test_causal_blocks_compute_the_same(length: int):
  q, k, v, mask = arrays(length, 2, length, length, 4, 2)
  mask = causal(mask)
  np.testing.assert_allclose(ours(q, k, v, mask, True), plain(q, k, v, mask), atol=2e-6)


@pytest.mark.parametrize("blocks", [False, True])
def test_gradients_equal_those_derived_from_the_plain_form(blocks: bool):
  length = BLOCK + 45
  q, k, v, mask = arrays(7, 2, length, length, 6, 2)
  mask = causal(mask)
  weights = jnp.asarray(np.random.default_rng(8).normal(size=(2, length, 6 * 8)), jnp.float32)
  gradient = lambda f: jax.jit(jax.grad(lambda *x: jnp.sum(weights * f(*x)), argnums=(0, 1, 2)))(q, k, v)  # noqa: E731
  wanted = gradient(lambda *x: plain(*x, mask))
  got = gradient(lambda *x: ours(*x, mask, blocks))
  for one, other in zip(got, wanted, strict=True):
    np.testing.assert_allclose(one, other, atol=2e-6 * float(jnp.abs(other).max()))


@pytest.mark.parametrize("blocks", [False, True])
def test_gradients_equal_finite_differences_in_float64(blocks: bool):
  with jax.enable_x64(True):
    length = BLOCK + 3
    q, k, v, mask = arrays(9, 1, length, length, 4, 2, "float64")
    weights = jnp.asarray(np.random.default_rng(10).normal(size=(1, length, 4 * 8)))
    loss = jax.jit(lambda *x: jnp.sum(weights * ours(*x, causal(mask), blocks)))
    assert loss(q, k, v).dtype == jnp.float64
    check_grads(loss, (q, k, v), order=1, modes=("rev",), atol=1e-7, rtol=1e-7, eps=1e-5)


@pytest.mark.parametrize("blocks", [False, True])
def test_capped_scores_have_the_derived_gradients_too(blocks: bool):
  """In float64 against finite differences, and the values against tanh written out."""
  with jax.enable_x64(True):
    length, cap, scale = BLOCK + 3, 1.5, 0.4
    q, k, v, mask = arrays(13, 1, length, length, 4, 2, "float64")
    mask = causal(mask)
    kv = lambda k, v: KV(k.transpose(0, 2, 3, 1), v.transpose(0, 2, 1, 3))  # noqa: E731
    capped = jax.jit(lambda q, k, v: attend(q, kv(k, v), mask, causal=blocks, scale=scale, softcap=cap))
    scores = jnp.einsum("bthd,bshd->bhts", q, jnp.repeat(k, 2, axis=2)) * scale
    weights = jax.nn.softmax(jnp.where(mask[:, None], cap * jnp.tanh(scores / cap), -jnp.inf), axis=-1)
    wanted = jnp.einsum("bhts,bshd->bthd", weights, jnp.repeat(v, 2, axis=2)).reshape(1, length, -1)
    np.testing.assert_allclose(capped(q, k, v), wanted, atol=1e-9)
    factors = jnp.asarray(np.random.default_rng(14).normal(size=wanted.shape))
    loss = jax.jit(lambda *x: jnp.sum(factors * capped(*x)))
    check_grads(loss, (q, k, v), order=1, modes=("rev",), atol=1e-7, rtol=1e-7, eps=1e-5)


@pytest.mark.parametrize("blocks", [False, True])
def test_a_query_that_sees_nothing_gives_no_nan_and_disturbs_no_other(blocks: bool):
  q, k, v, mask = arrays(11, 2, 9, 9, 4, 2)
  mask = causal(mask)
  blind = mask.at[:, 4].set(False)
  out, wanted = ours(q, k, v, blind, blocks), plain(q, k, v, mask)
  gradients = jax.jit(jax.grad(lambda *x: jnp.sum(ours(*x, blind, blocks) ** 2), argnums=(0, 1, 2)))(q, k, v)
  assert all(bool(jnp.isfinite(x).all()) for x in (out, *gradients))
  seeing = np.arange(9) != 4
  np.testing.assert_allclose(out[:, seeing], wanted[:, seeing], atol=2e-6)


def test_bfloat16_scores_are_summed_in_float32():
  q, k, v, mask = arrays(12, 2, 40, 40, 4, 2, "bfloat16", width=64)
  exact = plain(*(x.astype(jnp.float32) for x in (q, k, v)), mask)
  out = ours(q, k, v, mask)
  assert out.dtype == jnp.bfloat16
  np.testing.assert_allclose(out.astype(jnp.float32), exact, atol=0.03)


def test_packed_segments_see_themselves_alone_and_nothing_later():
  mask = np.asarray(segment_mask(jnp.asarray([[1, 1, 2, 2, 0]])))[0].astype(int)
  wanted = [[1, 0, 0, 0, 0], [1, 1, 0, 0, 0], [0, 0, 1, 0, 0], [0, 0, 1, 1, 0], [0, 0, 0, 0, 0]]
  np.testing.assert_array_equal(mask, wanted)


def test_a_window_goes_by_position_within_the_segment():
  positions = jnp.asarray([[0, 1, 2, 3, 0, 1, 2]])
  mask = segment_mask(jnp.asarray([[1, 1, 1, 1, 2, 2, 2]]))
  seen = np.asarray(window_mask(mask, positions, positions, 2))[0].astype(int)
  wanted = np.zeros((7, 7), int)
  for query, keys in enumerate([[0], [0, 1], [1, 2], [2, 3], [4], [4, 5], [5, 6]]):
    wanted[query, keys] = 1
  np.testing.assert_array_equal(seen, wanted)
  for none_or_wide in (None, 7):
    assert window_mask(mask, positions, positions, none_or_wide) is mask


def test_new_keys_go_to_each_row_s_own_place_and_nowhere_else():
  cache = KV(jnp.zeros((2, 3, 8, 6)), jnp.zeros((2, 3, 6, 8)))
  new = KV(jnp.ones((2, 3, 8, 1)), 2 * jnp.ones((2, 3, 1, 8)))
  filled = write(cache, new, jnp.asarray([[4], [0]]))
  keys, values = np.zeros((2, 3, 8, 6)), np.zeros((2, 3, 6, 8))
  for row, place in enumerate((4, 0)):
    keys[row, :, :, place], values[row, :, place] = 1, 2
  np.testing.assert_array_equal(filled.k, keys)
  np.testing.assert_array_equal(filled.v, values)
