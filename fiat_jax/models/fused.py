"""Fused attention of decoder-only models in training: scores of a whole row never lie in memory.

splash: JAX's own kernel for TPUs. cudnn: cuDNN's, on GPUs. Elsewhere, and where a kernel cannot, `attention.py`
computes the same. Shapes: B batch, S sequence, H heads, K key-value heads, D head_dim.
"""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING, Any, Literal

import jax
import numpy as np
from jax.sharding import PartitionSpec

from fiat_jax import sharding
from fiat_jax.errors import UserError

if TYPE_CHECKING:
  from fiat_jax.models.config import DecoderConfig
  from fiat_jax.models.family import Module

Kernel = Literal["plain", "splash", "cudnn"]
BY_PLATFORM: dict[str, Kernel] = {"tpu": "splash", "gpu": "cudnn"}
LANES = 128  # a TPU's: rows of such a multiple alone
BLOCKS = (512, 256, 128)  # queries and keys at a time; the largest that divides a row
CUDNN_WIDTH = 128  # of a head, at the most, on every card that has the kernel


def kernel(asked: str, module: Module, platform: str) -> Kernel:
  """Which computes training's attention; `auto` takes a fused one where there is one for the model and the platform.

  Raises:
    UserError: `fused` is asked for, and there is none.
  """
  why = _refused(module.config, platform)
  if asked == "fused" and why:
    raise UserError(f"--attention fused: {why}; give auto or plain")
  return BY_PLATFORM[platform] if asked != "plain" and not why else "plain"


def _refused(config: object, platform: str) -> str:
  """Why there is no fused kernel; empty where there is one."""
  from fiat_jax.models.config import DecoderConfig

  if platform not in BY_PLATFORM:
    return f"there is a kernel for TPUs and for GPUs alone, and this is a {platform}"
  if not isinstance(config, DecoderConfig):
    return "an encoder–decoder's scores have a learned bias, with which the kernel saves nothing"
  if platform == "gpu":
    if config.dtype != "bfloat16":
      return "cuDNN's kernel takes bfloat16 alone (--dtype bfloat16)"
    if config.attention_softcap is not None:
      return "cuDNN's kernel has no capped scores, which this model has"
    if config.head_dim > CUDNN_WIDTH or config.head_dim % 8:
      return f"cuDNN's kernel takes heads of {CUDNN_WIDTH} numbers at the most, and this model's have {config.head_dim}"
    if jax.default_backend() == "gpu" and not cudnn_works(config.heads, config.kv_heads, config.head_dim):
      return "this GPU, or the cuDNN that is installed, has no such kernel"
  elif any(kind.window is not None and kind.window < LANES for kind in config.distinct_kinds):
    return "this model's layers look back over fewer tokens than the kernel takes at a time"
  return ""


def splash_takes(config: DecoderConfig, length: int) -> bool:
  """Whether rows of this length can go through splash: no layer's window is shorter, and it divides into blocks."""
  return length % LANES == 0 and all(kind.window is None or kind.window >= length for kind in config.distinct_kinds)


def splash(
  q: jax.Array,
  k: jax.Array,
  v: jax.Array,
  segments: jax.Array,
  *,
  scale: float | None = None,
  softcap: float | None = None,
  interpret: bool = False,
) -> jax.Array:
  """Causal attention within segments [B, S] of q [B, S, H, D], k and v [B, S, K, D] → [B, S, H · D].

  Over a mesh each device works on its own rows and heads; heads that do not divide are whole on every device. What
  padding gives (segment 0) means nothing.
  """
  q = q * (q.shape[-1] ** -0.5 if scale is None else scale)
  work = functools.partial(_splash, softcap=softcap, interpret=interpret)
  mesh = jax.sharding.get_abstract_mesh()
  if mesh.empty or math.prod(mesh.shape.values()) == 1:
    return work(q, k, v, segments)
  rows = sharding.RULES["batch"] if q.shape[0] % sharding.ways("batch") == 0 else None
  heads = sharding.RULES["heads"] if k.shape[2] % sharding.ways("heads") == 0 else None
  whole, ids = PartitionSpec(rows, None, heads, None), PartitionSpec(rows, None)
  out = PartitionSpec(rows, None, heads)
  return jax.shard_map(work, in_specs=(whole, whole, whole, ids), out_specs=out, check_vma=False)(q, k, v, segments)


def _splash(
  q: jax.Array, k: jax.Array, v: jax.Array, segments: jax.Array, *, softcap: float | None, interpret: bool
) -> jax.Array:
  from jax.experimental.pallas.ops.tpu import splash_attention as library

  batch, length, heads, width = q.shape
  block = next(block for block in BLOCKS if length % block == 0)
  mask = library.MultiHeadMask([library.CausalMask((length, length))] * heads)
  sizes = library.BlockSizes(
    block_q=block,
    block_kv=block,
    block_kv_compute=block,
    block_q_dkv=block,
    block_kv_dkv=block,
    block_kv_dkv_compute=block,
    use_fused_bwd_kernel=True,
  )
  one = library.make_splash_mha(
    mask, block_sizes=sizes, head_shards=1, q_seq_shards=1, attn_logits_soft_cap=softcap, interpret=interpret
  )
  turned = (x.transpose(0, 2, 1, 3) for x in (q, k, v))
  out: Any = jax.vmap(one)(*turned, library.SegmentIds(segments, segments))
  return out.transpose(0, 2, 1, 3).reshape(batch, length, heads * width)


def cudnn(q: jax.Array, k: jax.Array, v: jax.Array, mask: jax.Array, *, scale: float | None = None) -> jax.Array:
  """Causal attention where mask [B, S, S] lets it of q [B, S, H, D], k and v [B, S, K, D] → [B, S, H · D]."""
  implementation = "cudnn" if jax.default_backend() == "gpu" else "xla"
  out = jax.nn.dot_product_attention(
    q, k, v, mask=mask[:, None], scale=scale, is_causal=True, implementation=implementation
  )
  return out.reshape(*q.shape[:2], -1)


@functools.cache
def cudnn_works(heads: int, kv_heads: int, width: int) -> bool:
  """Whether this machine's cuDNN has the kernel, backwards too: not every card and version does."""
  import jax.numpy as jnp

  shapes = ((1, LANES, heads, width), (1, LANES, kv_heads, width), (1, LANES, kv_heads, width))
  arrays = [jnp.zeros(shape, jnp.bfloat16) for shape in shapes]
  mask = jnp.asarray(np.tril(np.ones((1, LANES, LANES), bool)))
  try:
    loss = lambda q, k, v: jnp.sum(cudnn(q, k, v, mask)).astype(jnp.float32)  # noqa: E731
    jax.block_until_ready(jax.jit(jax.grad(loss, argnums=(0, 1, 2)))(*arrays))
  except Exception:  # of many kinds, by version
    return False
  return True
