"""What each layer sees of positions: rotary angles and a mask. Layers of one model may differ in both."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fiat_jax.models.attention import Array, window_mask
from fiat_jax.models.config import DecoderConfig, LayerKind
from fiat_jax.models.layers import looked_up, rotary_angles


class View(NamedTuple):
  """What a layer sees of positions: cosines and sines [B, T, head_dim / 2] (None: it turns nothing), mask [B, T, S].

  Where layers differ, training stacks a member's values on a new first axis, and each layer picks its own. `segments`
  [B, S] are given where the mask says no more than they do: of a segment, what stands before (`fused.py`).
  """

  rotary: tuple[jax.Array, jax.Array] | None
  mask: jax.Array
  segments: jax.Array | None = None


def views(
  c: DecoderConfig, positions: Array, mask: jax.Array, keys: Array, *, unrolled: bool = False
) -> dict[LayerKind, View]:
  """What layers of each kind see: `mask` [B, T, S] is without windows; positions [B, T], those of the keys [·, S].

  `unrolled`: layers are not scanned; all positions are below S.
  """
  turns = dict.fromkeys(kind.rotary for kind in c.distinct_kinds)
  angles = functools.partial(looked_up, count=mask.shape[-1]) if unrolled else rotary_angles
  turned = {rotary: angles(positions, c.head_dim, rotary) if rotary else None for rotary in turns}
  windows = dict.fromkeys(kind.window for kind in c.distinct_kinds)
  masks = {window: window_mask(mask, positions, keys, window) for window in windows}
  return {kind: View(turned[kind.rotary], masks[kind.window]) for kind in c.distinct_kinds}


def stacked(c: DecoderConfig, seen: Mapping[LayerKind, View]) -> tuple[jax.Array | None, View]:
  """Which view each layer picks [L], and the views in one: a member that all kinds share is not stacked."""
  rotary, mask = [view.rotary for view in seen.values()], [view.mask for view in seen.values()]
  some = next((angles for angles in rotary if angles is not None), None)
  if some is not None:  # a turn by no angle leaves every number as it is
    still = (jnp.ones_like(some[0]), jnp.zeros_like(some[1]))
    rotary = [still if angles is None else angles for angles in rotary]
  view = View(_shared_or_stacked(rotary), _shared_or_stacked(mask))
  if len(seen) == 1:
    return None, view
  return jnp.asarray([c.distinct_kinds.index(kind) for kind in c.layer_kinds]), view


def _shared_or_stacked(values: Sequence[Any]) -> Any:
  if all(value is values[0] for value in values):
    return values[0]
  return jax.tree.map(lambda *leaves: jnp.stack(leaves), *values)


def key_positions(positions: Array, count: int, cached: bool) -> Array:
  """Positions [·, count] of what a mask covers: those from 0 up to the cache's end, or a prefix and the new tokens."""
  if cached:
    return np.arange(count)[None]
  before = count - positions.shape[1]
  if not before:
    return positions
  return jnp.concatenate([jnp.tile(jnp.arange(before), (positions.shape[0], 1)), positions], axis=1)
