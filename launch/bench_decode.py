"""Times the engine on random prompts: equal or drawn lengths, with or without a prefix that all prompts share.

One JSON line: new tokens a second, prefill counted in, a shared prefix and compiling not. With `--bandwidth`, the
device's in GB/s, also the share of the rate at which it could read weights and cache, nothing else being limiting.
  .venv/bin/python launch/bench_decode.py --model smollm2_135m_instruct --source 128 --lengths 8,120
"""

from __future__ import annotations

import argparse
import json
import random
import time
from typing import Any

import jax

from fiat_jax import configuration, runtime
from fiat_jax.checkpoints.locate import locate
from fiat_jax.decoding.engine import Engine, Lengths
from fiat_jax.decoding.request import Request
from fiat_jax.models import pretrained
from fiat_jax.models.lora import LoraConfig


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument("--model", required=True, help="a name under gin/models, a folder or a GGUF file")
  parser.add_argument("--dtype", default="float32")
  parser.add_argument("--slots", type=int, default=16)
  parser.add_argument("--examples", type=int, default=64)
  parser.add_argument("--source", type=int, default=128, help="tokens of a prompt, behind what is shared")
  parser.add_argument("--new_tokens", type=int, default=64)
  parser.add_argument("--lengths", default="", help="A,B: each answer's own length, drawn")
  parser.add_argument("--prefix", type=int, default=0, help="tokens that all prompts begin with")
  parser.add_argument("--bandwidth", type=float, default=0.0)
  args = parser.parse_args()
  engine, requests = _engine(args), _requests(args)
  engine.generate(requests, shared=args.prefix)
  begun = time.perf_counter()
  completions = engine.generate(requests, shared=args.prefix)
  seconds = time.perf_counter() - begun
  rate = sum(len(completion.tokens) for completion in completions) / seconds
  found: dict[str, Any] = {name: getattr(args, name) for name in ("dtype", "slots", "source", "prefix")}
  found |= {"new_tokens": args.lengths or args.new_tokens, "device": jax.devices()[0].device_kind}
  found |= {"new_tokens_per_s": round(rate, 2)}
  if args.bandwidth:
    found["share_of_roofline"] = round(rate / args.slots * _bytes_a_step(engine, requests, args) / args.bandwidth, 3)
  print(json.dumps(found))


def _engine(args: argparse.Namespace) -> Engine:
  configured = configuration.configure([], [], {"SLOTS": str(args.slots)})
  runtime.start(configured.settings)
  found = locate(args.model, configured.models.get(args.model))
  described = pretrained.describe(
    found.weights, dtype=args.dtype, lora=LoraConfig(), plain=True, tokenizer=found.tokenizer
  )
  weights = described.family.unstack(pretrained.load(described))
  return Engine(described.module, weights, stop_ids=(), slots=args.slots)


def _requests(args: argparse.Namespace) -> list[Request]:
  draw = random.Random(0)
  ids = lambda count: draw.choices(range(5, 30000), k=count)  # noqa: E731
  shared = ids(args.prefix)
  low, high = map(int, args.lengths.split(",")) if args.lengths else (args.new_tokens,) * 2
  return [
    Request(tokens=shared + ids(args.source), max_new_tokens=draw.randint(low, high)) for _ in range(args.examples)
  ]


def _bytes_a_step(engine: Engine, requests: list[Request], args: argparse.Namespace) -> float:
  """What a step has to read, in GB: all weights but the rows of an untied embedding, and the slots' whole cache."""
  lengths = Lengths.of(requests)
  room = engine.family.room(lengths.prompt - args.prefix, lengths.whole - args.prefix, lengths.new)
  cache = jax.eval_shape(lambda: engine.family.empty(args.slots, room))
  read = [engine.weights, cache, engine.prefix(requests[0].tokens[: args.prefix]) if args.prefix else None]
  return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(read)) / 1e9


if __name__ == "__main__":
  main()
