"""Fused attention gives what plain attention gives: splash's kernel interpreted on a CPU, and compiled for a TPU."""

from __future__ import annotations

import dataclasses
import functools
import os
import subprocess
import sys
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from fiat_jax.errors import UserError
from fiat_jax.models import fused
from fiat_jax.models.attention import KV, attend, segment_mask
from fiat_jax.models.config import LayerKind
from fiat_jax.models.decoder import Decoder
from fiat_jax.planning import child

B, S, H, K, D = 2, 256, 4, 2, 64
SEGMENTS = np.array([[1] * 100 + [2] * 120 + [0] * 36, [1] * 60 + [2] * 90 + [3] * 106], np.int32)


def arrays(dtype="float32"):
  generator = np.random.default_rng(3)
  q, k, v = (jnp.asarray(generator.normal(size=(B, S, heads, D)), dtype) for heads in (H, K, K))
  return q, k, v, jnp.asarray(generator.normal(size=(B, S, H * D)) * (SEGMENTS > 0)[:, :, None], dtype)


def plain(q, k, v, softcap=None, scale=None):
  kv = KV(k.transpose(0, 2, 3, 1), v.transpose(0, 2, 1, 3))
  return attend(q, kv, segment_mask(jnp.asarray(SEGMENTS)), causal=True, softcap=softcap, scale=scale)


@pytest.mark.parametrize(
  ("softcap", "scale"), [(None, None), pytest.param(20.0, 0.3, marks=pytest.mark.slow)], ids=["plain", "capped"]
)
def test_splash_gives_values_and_gradients_of_plain_attention(softcap, scale):
  """Of grouped heads over packed rows with padding, to f32's rounding."""
  q, k, v, weights = arrays()
  splash = functools.partial(fused.splash, segments=jnp.asarray(SEGMENTS), softcap=softcap, scale=scale, interpret=True)
  loss = lambda f, *x: jnp.sum(weights * f(*x))  # noqa: E731
  got = jax.jit(jax.value_and_grad(functools.partial(loss, splash), argnums=(0, 1, 2)))(q, k, v)
  other = functools.partial(plain, softcap=softcap, scale=scale)
  wanted = jax.jit(jax.value_and_grad(functools.partial(loss, other), argnums=(0, 1, 2)))(q, k, v)
  np.testing.assert_allclose(got[0], wanted[0], rtol=1e-4)
  for one, two in zip(got[1], wanted[1], strict=True):
    np.testing.assert_allclose(one, two, atol=2e-5 * float(jnp.abs(two).max()))


def test_cudnn_is_asked_for_what_plain_attention_computes():
  """On a CPU the same call goes to XLA: mask, scale and grouped heads are what is shown; padding means nothing."""
  q, k, v, weights = arrays()
  got = jax.jit(fused.cudnn, static_argnames="scale")(q, k, v, segment_mask(jnp.asarray(SEGMENTS)), scale=0.3)
  np.testing.assert_allclose(weights * got, weights * plain(q, k, v, scale=0.3), atol=2e-5)


@pytest.mark.slow
def test_a_whole_model_computes_the_same_by_the_kernel_of_gpus(tiny_model):
  rows = tiny.rows_of([tiny.random_ids(20, 7), tiny.random_ids(11, 8)], 24)
  variables = {"params": tiny_model.params}

  def loss(params, kernel):
    logits = Decoder(tiny.CONFIG, kernel=kernel).apply({"params": params}, *rows, method="init_all")
    return jnp.sum(jax.nn.log_softmax(logits)[..., 3] * (rows[2] > 0))

  one, two = (jax.jit(jax.grad(loss), static_argnums=1)(variables["params"], kernel) for kernel in ("plain", "cudnn"))
  scale = max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(one))
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-5 * scale), one, two)


def module(**changes):
  settings = {"dtype": "bfloat16", "heads": 4, "kv_heads": 2, "head_dim": 64} | changes
  return SimpleNamespace(config=dataclasses.replace(tiny.CONFIG, **settings))


@pytest.mark.parametrize(
  ("asked", "platform", "changes", "found"),
  [
    ("auto", "tpu", {}, "splash"),
    ("plain", "tpu", {}, "plain"),
    ("auto", "cpu", {}, "plain"),
    ("fused", "gpu", {}, "cudnn"),
    ("auto", "gpu", {"dtype": "float32"}, "plain"),
    ("auto", "gpu", {"attention_softcap": 50.0}, "plain"),
    ("auto", "gpu", {"head_dim": 256}, "plain"),
    ("auto", "tpu", {"kinds": (LayerKind(window=64),)}, "plain"),
  ],
)
def test_a_kernel_is_taken_where_there_is_one_for_model_and_platform(asked, platform, changes, found):
  assert fused.kernel(asked, module(**changes), platform) == found


@pytest.mark.parametrize(
  ("platform", "changes", "told"),
  [("cpu", {}, "and this is a cpu; give auto or plain"), ("gpu", {"dtype": "float32"}, "takes bfloat16 alone")],
)
def test_where_there_is_none_asking_for_it_is_refused(platform, changes, told):
  with pytest.raises(UserError, match=told):
    fused.kernel("fused", module(**changes), platform)


def test_rows_that_do_not_divide_or_see_less_than_all_go_the_plain_way():
  wide, narrow = module(kinds=(LayerKind(window=4096),)).config, module(kinds=(LayerKind(window=200),)).config
  assert fused.splash_takes(wide, 256) and not fused.splash_takes(narrow, 256)
  assert not fused.splash_takes(wide, 192)


COMPILED = """
import jax, jax.numpy as jnp
from jax.experimental import topologies
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec as P
from fiat_jax import meshes
from fiat_jax.models import fused
slice_ = topologies.get_topology_desc(topology_name="v5e:2x2", platform="tpu")
made = topologies.make_mesh(slice_, (1, 2, 2), meshes.AXES)
mesh = Mesh(made.devices, made.axis_names, axis_types=(AxisType.Auto,) * 3)
with jax.set_mesh(mesh):
  for width in (64, 128, 256):
    put = lambda *shape: jax.ShapeDtypeStruct(shape, jnp.bfloat16, sharding=NamedSharding(mesh, P("fsdp")))
    ids = jax.ShapeDtypeStruct((4, 512), jnp.int32, sharding=NamedSharding(mesh, P("fsdp")))
    loss = lambda q, k, v, s: jnp.sum(fused.splash(q, k, v, s).astype(jnp.float32))
    shapes = put(4, 512, 8, width), put(4, 512, 2, width), put(4, 512, 2, width), ids
    text = jax.jit(jax.grad(loss, argnums=(0, 1, 2))).lower(*shapes).compile().as_text()
    print(text.count("tpu_custom_call"), "f32[2,4,512,512]" in text, "[4,4,512,512]" in text)
"""


@pytest.mark.slow
@pytest.mark.skipif(not child.has_compiler(), reason="libtpu is not to be had")
def test_splash_is_compiled_by_the_tpu_s_own_compiler_over_a_mesh():
  """With its gradient, by heads of several widths; nowhere in the program are there scores of all pairs."""
  environment = os.environ | child.COMPILES
  done = subprocess.run([sys.executable, "-c", COMPILED], capture_output=True, text=True, env=environment)
  assert done.returncode == 0, done.stderr
  for line in done.stdout.splitlines():
    kernels, *scores = line.split()
    assert int(kernels) >= 2 and scores == ["False", "False"]
