"""Records what transformers and PEFT compute with small random T5 models, for the tests to compare with.

Run it in an environment of its own, with torch 2.13, transformers 5.23 and peft 0.21:

    python tests/golden/make_t5.py

All is float32. `CASES`, `tensors`, `adapter` and `batch` need numpy alone: the tests make the same models from them.
It writes t5.npz beside itself, for every case C:

C.encoded.N [S, D]: encoder states of row N; C.logits.N [T, V]: of its targets; C.greedy.N [32]: its greedy tokens.
C.loss: the sum of the targets' cross-entropies by their count, with the adapter (r = 2, alpha = 3); C.gradient.NAME:
its gradients, under PEFT's names.
buckets.B.D.KIND [601]: buckets of the relative positions -300 … 300, for B buckets, a limit D, KIND 1 (bidirectional)
or 0.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

RANK, ALPHA = 2, 3
NEW_TOKENS = 32
LENGTHS = ((150, 9), (37, 16), (5, 3))  # ids of source and target, end marks included
BUCKETS = ((32, 128), (32, 20), (8, 20), (16, 64), (12, 50))

COMMON = {
  "d_model": 32,
  "d_kv": 8,
  "num_heads": 3,
  "num_layers": 3,
  "num_decoder_layers": 2,
  "decoder_start_token_id": 0,
  "pad_token_id": 0,
  "eos_token_id": 1,
  "layer_norm_epsilon": 1e-6,
}
CASES: dict[str, dict[str, Any]] = {
  "t5_1_0": {
    **COMMON,
    "model_type": "t5",
    "vocab_size": 101,
    "d_ff": 48,
    "feed_forward_proj": "relu",
    "tie_word_embeddings": True,
  },
  "t5_1_1": {
    **COMMON,
    "model_type": "t5",
    "vocab_size": 103,
    "d_ff": 40,
    "feed_forward_proj": "gated-gelu",
    "tie_word_embeddings": False,
  },
  "mt5": {
    **COMMON,
    "model_type": "mt5",
    "vocab_size": 131,
    "d_ff": 56,
    "num_heads": 4,
    "d_kv": 12,
    "relative_attention_num_buckets": 16,
    "relative_attention_max_distance": 50,
    "feed_forward_proj": "gated-gelu",
    "tie_word_embeddings": False,
  },
}
SEEDS = {"t5_1_0": 20, "t5_1_1": 4, "mt5": 26}


def shapes(config: dict[str, Any]) -> dict[str, tuple[int, ...]]:
  """Every tensor's shape under Hugging Face's name."""
  d, inner, ffn = config["d_model"], config["num_heads"] * config["d_kv"], config["d_ff"]
  found: dict[str, tuple[int, ...]] = {"shared.weight": (config["vocab_size"], d)}
  attention = {"q": (inner, d), "k": (inner, d), "v": (inner, d), "o": (d, inner)}
  gated = config["feed_forward_proj"] == "gated-gelu"
  dense = {"wi_0": (ffn, d), "wi_1": (ffn, d), "wo": (d, ffn)} if gated else {"wi": (ffn, d), "wo": (d, ffn)}
  for stack, count, blocks in (
    ("encoder", config["num_layers"], {"SelfAttention": attention, "DenseReluDense": dense}),
    (
      "decoder",
      config["num_decoder_layers"],
      {"SelfAttention": attention, "EncDecAttention": attention, "DenseReluDense": dense},
    ),
  ):
    bias = f"{stack}.block.0.layer.0.SelfAttention.relative_attention_bias.weight"
    found[bias] = (config.get("relative_attention_num_buckets", 32), config["num_heads"])
    found[f"{stack}.final_layer_norm.weight"] = (d,)
    for block in range(count):
      for layer, (kind, parts) in enumerate(blocks.items()):
        place = f"{stack}.block.{block}.layer.{layer}"
        found[f"{place}.layer_norm.weight"] = (d,)
        found |= {f"{place}.{kind}.{part}.weight": shape for part, shape in parts.items()}
  if not config["tie_word_embeddings"]:
    found["lm_head.weight"] = (config["vocab_size"], d)
  return found


def tensors(case: str) -> dict[str, np.ndarray]:
  """The weights of a case: kernels that keep the variance, norms about one, strong position biases.

  A tied head repeats what it reads unless the embedding is weak, and the decoder's memory and last norm strong.
  """
  generator, found, tied = np.random.default_rng(SEEDS[case]), {}, CASES[case]["tie_word_embeddings"]
  for name, shape in shapes(CASES[case]).items():
    if name.endswith("norm.weight"):
      values = generator.uniform(0.5, 1.5, shape) * (6 if tied and name == "decoder.final_layer_norm.weight" else 1)
    elif name == "shared.weight":
      values = generator.normal(0, 0.15 if tied else 0.7, shape)
    elif "relative" in name:
      values = generator.normal(0, 2.0, shape)
    else:
      strength = 2.0 if name.endswith((".o.weight", ".wo.weight")) else 1.0
      remembers = tied and name.startswith("decoder") and name.endswith("SelfAttention.o.weight")
      values = generator.normal(0, shape[1] ** -0.5 * strength * (6 if remembers else 1), shape)
    found[name] = values.astype(np.float32)
  return found


def adapter(case: str) -> dict[str, np.ndarray]:
  """A random LoRA adapter on every query and value, under PEFT's names: A [r, in], B [out, r]."""
  generator, found = np.random.default_rng(SEEDS[case] + 100), {}
  for name, (outputs, inputs) in (item for item in shapes(CASES[case]).items() if len(item[1]) == 2):
    if name.endswith((".q.weight", ".v.weight")):
      place = f"base_model.model.{name.removesuffix('.weight')}"
      found[f"{place}.lora_A.weight"] = generator.normal(0, 0.2, (RANK, inputs)).astype(np.float32)
      found[f"{place}.lora_B.weight"] = generator.normal(0, 0.2, (outputs, RANK)).astype(np.float32)
  return found


def batch(case: str) -> list[tuple[np.ndarray, np.ndarray]]:
  """Source and target ids, end marks included."""
  generator, size = np.random.default_rng(SEEDS[case] + 200), CASES[case]["vocab_size"]
  ids = lambda n: np.append(generator.integers(2, size, n - 1), 1).astype(np.int32)  # noqa: E731
  return [(ids(source), ids(target)) for source, target in LENGTHS]


def load(case: str) -> Any:
  import torch
  import transformers

  config = CASES[case]
  kind = "MT5" if config["model_type"] == "mt5" else "T5"
  settings = {key: value for key, value in config.items() if key != "model_type"}
  model = getattr(transformers, f"{kind}ForConditionalGeneration")(getattr(transformers, f"{kind}Config")(**settings))
  if not config["tie_word_embeddings"]:  # transformers 5 ties them whatever the configuration says
    model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.detach().clone())
  parameters = dict(model.named_parameters())
  weights = tensors(case)
  assert set(parameters) == set(weights), set(parameters) ^ set(weights)
  with torch.no_grad():
    for name, values in weights.items():
      parameters[name].copy_(torch.from_numpy(values))
  return model.eval()


def padded(rows: list[np.ndarray], value: int) -> Any:
  import torch

  width = max(map(len, rows))
  return torch.tensor(np.stack([np.pad(row, (0, width - len(row)), constant_values=value) for row in rows])).long()


def record(case: str) -> dict[str, np.ndarray]:
  import torch
  from peft import LoraConfig, get_peft_model

  model, arrays, rows = load(case), {}, batch(case)
  sources, labels = padded([source for source, _ in rows], 0), padded([target for _, target in rows], -100)
  mask = padded([np.ones(len(source), np.int64) for source, _ in rows], 0)
  with torch.no_grad():
    output = model(input_ids=sources, attention_mask=mask, labels=labels)
    for n, (source, target) in enumerate(rows):
      arrays[f"encoded.{n}"] = output.encoder_last_hidden_state[n, : len(source)].numpy()
      arrays[f"logits.{n}"] = output.logits[n, : len(target)].numpy()
    for n, (source, _) in enumerate(rows):
      ids = torch.from_numpy(source)[None].long()
      settings = {"do_sample": False, "max_new_tokens": NEW_TOKENS, "eos_token_id": [], "pad_token_id": 0}
      tokens = model.generate(ids, attention_mask=torch.ones_like(ids), **settings)[0, 1:].numpy()
      print(case, n, len(set(tokens.tolist())), tokens.tolist())
      arrays[f"greedy.{n}"] = tokens.astype(np.int32)
  assert all(len(set(arrays[f"greedy.{n}"].tolist())) >= 16 for n in range(len(rows))), case

  config = LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules=["q", "v"], task_type="SEQ_2_SEQ_LM")
  adapted = get_peft_model(model, config).eval()
  parameters = {name.replace(".default", ""): value for name, value in adapted.named_parameters() if "lora_" in name}
  values = adapter(case)
  assert set(parameters) == set(values), set(parameters) ^ set(values)
  with torch.no_grad():
    for name, value in values.items():
      parameters[name].copy_(torch.from_numpy(value))
  logits = adapted(input_ids=sources, attention_mask=mask, labels=labels).logits
  loss = torch.nn.functional.cross_entropy(logits.double().transpose(1, 2), labels, ignore_index=-100)
  loss.backward()
  arrays["loss"] = np.float32(loss.item())
  arrays |= {f"gradient.{name}": value.grad.numpy() for name, value in parameters.items()}
  return {f"{case}.{name}": value for name, value in arrays.items()}


def record_buckets() -> dict[str, np.ndarray]:
  import torch
  from transformers.models.t5.modeling_t5 import T5Attention

  places, found = torch.arange(-300, 301), {}
  for buckets, limit in BUCKETS:
    for both in (0, 1):
      values = T5Attention._relative_position_bucket(places, bool(both), buckets, limit)
      found[f"buckets.{buckets}.{limit}.{both}"] = values.numpy().astype(np.int32)
  return found


def main() -> None:
  import torch

  torch.set_num_threads(1)
  arrays = record_buckets()
  for case in CASES:
    arrays |= record(case)
  np.savez_compressed(Path(__file__).parent / "t5.npz", **arrays)


if __name__ == "__main__":
  main()
