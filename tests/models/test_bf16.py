"""What XLA for CPUs does slowly with bf16 numbers is done another way there, and comes to the same."""

import dataclasses
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from fiat_jax.decoding import slots
from fiat_jax.decoding.engine import Engine, Lengths, Session
from fiat_jax.decoding.request import Request
from fiat_jax.models import attention, bf16, decoder
from fiat_jax.models.attention import KV
from fiat_jax.models.decoder import Decoder


def random(seed: int, *shape: int, dtype=jnp.bfloat16) -> jax.Array:
  return jax.random.normal(jax.random.key(seed), shape, jnp.float32).astype(dtype)


def wide(array: jax.Array) -> np.ndarray:
  return np.asarray(array, np.float64)


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_a_product_and_its_gradients_are_those_of_exact_factors_rounded_once(dtype):
  x, kernel, d_y = random(0, 2, 7, 96, dtype=dtype), random(1, 96, 40, dtype=dtype), random(2, 2, 7, 40, dtype=dtype)
  y, back = jax.vjp(bf16.linear, x, kernel)
  d_x, d_kernel = back(d_y)
  rows, d_rows = wide(x).reshape(-1, 96), wide(d_y).reshape(-1, 40)
  exact = [wide(x) @ wide(kernel), wide(d_y) @ wide(kernel).T, rows.T @ d_rows]
  for found, is_ in zip((y, d_x, d_kernel), exact, strict=True):
    assert found.dtype == jnp.dtype(dtype)
    np.testing.assert_allclose(wide(found), is_, rtol=2.0**-8 if dtype == "bfloat16" else 1e-5, atol=1e-4)


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_rows_of_a_table_are_its_own_and_gradients_of_a_row_add_up(dtype):
  table, rows = random(0, 11, 3, dtype=dtype), jnp.array([[4, 0], [4, 10]])
  taken, back = jax.vjp(lambda table: bf16.take(table, rows), table)
  np.testing.assert_array_equal(wide(taken), wide(table)[np.asarray(rows)])
  (gradient,) = back(jnp.ones_like(taken))
  np.testing.assert_array_equal(wide(gradient)[:, 0], [1, 0, 0, 0, 2, 0, 0, 0, 0, 0, 1])


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
@pytest.mark.parametrize("count", [1, 3])
def test_new_keys_and_values_stand_where_they_were_put_and_all_else_stays(count, dtype):
  cache = KV(random(0, 4, 2, 8, 16, dtype=dtype), random(1, 4, 2, 16, 8, dtype=dtype))
  new = KV(random(2, 4, 2, 8, count, dtype=dtype), random(3, 4, 2, count, 8, dtype=dtype))
  places = np.array([[0], [7], [13], [2]]) + np.arange(count)
  written = attention.write(cache, new, jnp.asarray(places))
  keys, values = wide(cache.k).copy(), wide(cache.v).copy()
  for row, at in enumerate(places):
    keys[row][:, :, at], values[row][:, at] = wide(new.k)[row], wide(new.v)[row]
  np.testing.assert_array_equal(wide(written.k), keys)
  np.testing.assert_array_equal(wide(written.v), values)


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="what XLA for CPUs does")
def test_a_step_of_decoding_makes_no_kernel_table_or_cache_f32():
  config = dataclasses.replace(tiny.CONFIG, dtype="bfloat16", vocab_size=1000, width=128, head_dim=64, ffn_width=256)
  module = Decoder(config)
  ids = jnp.zeros((1, 4), jnp.int32)
  variables = jax.jit(lambda: module.init(jax.random.key(0), ids, ids, ids + 1, method="init_all"))()
  params = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), decoder.nn.unbox(variables["params"]))
  engine = Engine(module, decoder.unstack({"params": params}, config.layers), stop_ids=(), slots=5)
  state = Session(engine, Lengths.of([Request(tokens=[1, 2], max_new_tokens=3)]))._state
  args = (engine.family, engine.weights, state, np.ones(5, bool), np.array([-1]), None, False, False)
  program = slots.decode.lower(*args).compile().as_text() or ""
  bodies = [body for body in re.split(r"\n(?=%|ENTRY)", program) if not body.startswith(("%fused", "%wrapped"))]
  widened = set(re.findall(r" = f32\[([\d,]+)\]", "".join(bodies)))  # what stands in memory
  held = [leaf for leaf in jax.tree.leaves((engine.weights, state.cache)) if leaf.ndim > 1]
  found = widened & {",".join(map(str, leaf.shape)) for leaf in held}
  assert held and not found
