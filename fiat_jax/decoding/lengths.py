"""Static lengths: few programs for prompts of any length."""

from __future__ import annotations


def bucket(length: int) -> int:
  """The static length that `length` is padded to: few to an octave, so that few programs are compiled."""
  octave = max(64, 1 << (max(length, 1) - 1).bit_length())
  step = max(octave // 8, 32)
  return max(64, -(-length // step) * step)
