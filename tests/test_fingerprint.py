"""Fingerprints of arrays: equal where every bit is, whatever devices hold them."""

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from fiat_jax.fingerprint import fingerprint

FLOATS = arrays.arrays(np.float32, (3, 4), elements=st.floats(width=32, allow_nan=False))


@given(FLOATS, FLOATS)
def test_trees_have_the_same_fingerprint_where_every_bit_is_the_same(one, other):
  same = one.tobytes() == other.tobytes()
  assert (fingerprint({"a": one}) == fingerprint({"a": jnp.asarray(other)})) == same


def test_places_signs_and_dtypes_count():
  x = np.arange(1, 25, dtype=np.float32).reshape(2, 3, 4)
  unlike = [x, x[::-1], x.swapaxes(0, 1).reshape(2, 3, 4), -x, x * 0, -(x * 0), x.astype(jnp.bfloat16), x[..., :3]]
  assert len({fingerprint([leaf]) for leaf in unlike}) == len(unlike)
  assert fingerprint([x, -x]) != fingerprint([-x, x])


def test_what_is_dealt_out_has_the_fingerprint_of_the_whole():
  x = np.random.default_rng(0).normal(size=(16, 6)).astype(np.float32)
  mesh = Mesh(np.array(jax.devices()).reshape(-1, 1), ("rows", "columns"))
  assert fingerprint(jax.device_put(x, NamedSharding(mesh, PartitionSpec("rows", "columns")))) == fingerprint(x)
