"""What a plan is made of, what it was asked and what it found: plain values, which travel between processes."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from fiat_jax.models.lora import LoraConfig
from fiat_jax.planning.chips import Chip, Target
from fiat_jax.settings import Settings


class Asked(NamedTuple):
  """What is to be planned.

  Attributes:
    config: the keys of a Hugging Face `config.json`.
    trains: what the recipe tunes: "adapter", "all", or nothing.
    lora: the adapter that it would tune.
  """

  target: Target
  name: str
  config: Mapping[str, Any]
  settings: Settings
  trains: str
  lora: LoraConfig


class Worked(NamedTuple):
  """A step on one device.

  Attributes:
    rows: of a microbatch, for each part into which rows are dealt.
    microbatches: how many the step has.
    held: names and bytes of what it is given.
    peak: bytes at the worst.
    least: FLOPs that it takes at the least; 0 where that is not known.
    compiled: whether the program was compiled; else the peak is an estimate, and what follows is empty.
  """

  name: str
  rows: int
  microbatches: int
  tokens: int
  held: Mapping[str, int]
  peak: float
  least: float
  compiled: bool
  flops: float = 0.0
  traffic: float = 0.0
  collectives: Mapping[str, float] = {}


class Found(NamedTuple):
  """A plan.

  Attributes:
    compiler: what compiled it; empty: nothing did.
    memory: bytes of a device that programs may use.
    tried: rows of a microbatch of training and whether they fit, as far as was tried.
  """

  compiler: str
  mesh: Mapping[str, int]
  parameters: int
  memory: float
  steps: list[Worked]
  tried: Mapping[int, bool]


def asked_as_json(asked: Asked) -> str:
  plain = {"settings": dataclasses.asdict(asked.settings), "lora": dataclasses.asdict(asked.lora)}
  return json.dumps({**asked._asdict(), **plain})


def asked_from_json(text: str | bytes) -> Asked:
  found: dict[str, Any] = json.loads(text)
  name, chip, devices, described = found["target"]
  settings: dict[str, Any] = {
    name: tuple(value) if isinstance(value, list) else value for name, value in found["settings"].items()
  }
  plain = {"settings": Settings(**settings), "lora": LoraConfig(**found["lora"])}
  return Asked(**{**found, **plain, "target": Target(name, Chip(*chip), devices, described)})


def found_as_json(found: Found) -> str:
  return json.dumps(found._asdict())


def found_from_json(text: str | bytes) -> Found:
  found: dict[str, Any] = json.loads(text)
  steps, tried = [Worked(*step) for step in found["steps"]], {int(rows): fits for rows, fits in found["tried"].items()}
  return Found(**{**found, "steps": steps, "tried": tried})
