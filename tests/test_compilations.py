"""Programs are let go of before there are more than a process may map."""

import pathlib

import jax
import jax.numpy as jnp

from fiat_jax import compilations


def test_many_programs_are_let_go_of_and_few_are_kept(monkeypatch):
  @jax.jit
  def sums(x):
    for n in range(12):
      x = jnp.sort(jnp.sin(x * n) @ x, 0)
    return x

  def made() -> int:
    with compilations.counted() as programs:
      sums(jnp.ones((8, 8))).block_until_ready()
    return programs.made

  assert made() >= 1 and made() == 0
  compilations.make_room()
  assert made() == 0, "few programs are kept"
  monkeypatch.setattr(compilations, "MOST_MAPPINGS", 0)
  before = mapped()
  compilations.make_room()
  assert mapped() < before and made() >= 1


def mapped() -> int:
  return pathlib.Path("/proc/self/maps").read_bytes().count(b"\n")
