"""Records what transformers, PEFT and torch compute with small models of every family, for the tests to compare with.

Run it in an environment of its own, with torch 2.13, transformers 5.23 and peft 0.21:

    python tests/golden/make_families.py

All is float32 with eager attention. Weights are not kept: `weight` below makes each from its name and shape. It writes,
beside itself:

families.json, by family
  config: as transformers 5 writes it (`CONFIGS` has what transformers 4 wrote); shapes: of the text tensors by name;
  adapter: the names in PEFT's file of an adapter on q_proj and v_proj of the text layers, and its target_modules.
families.npz, for each family F
  F.logits.P [S, V] of prompt P = 0, 1 (`prompts` below); F.prompt [29] and F.greedy [20]: its continuation, each
  token by a whole forward pass without a cache, at least 9 distinct ones.
  F.loss: mean cross-entropy of the last 15 tokens of prompt 0, with an adapter of rank 4 and alpha 6 that `weight`
  filled; F.gradient.L.q.A [4, 32], … of layer L.

Every model has a feature that bites: prompts go beyond the original length of rotary scaling and beyond every window.
"""

from __future__ import annotations

import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np

RANK, ALPHA, TARGETS, NEW_TOKENS, VOCABULARY = 4, 6.0, 15, 20, 64
BASE = {
  "vocab_size": VOCABULARY,
  "hidden_size": 32,
  "intermediate_size": 48,
  "num_hidden_layers": 4,
  "num_attention_heads": 4,
  "num_key_value_heads": 2,
  "max_position_embeddings": 256,
  "rms_norm_eps": 1e-5,
  "tie_word_embeddings": False,
  "bos_token_id": 1,
  "eos_token_id": 2,
  "pad_token_id": 0,
}
LLAMA3 = {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 32}
GEMMA = BASE | {"head_dim": 16, "query_pre_attn_scalar": 24, "sliding_window": 12, "tie_word_embeddings": True}
GEMMA |= {"hidden_activation": "gelu_pytorch_tanh"}
GEMMA3 = GEMMA | {"rope_theta": 1000.0, "rope_local_base_freq": 50.0}

CONFIGS: dict[str, dict[str, Any]] = {
  "llama3": BASE
  | {"model_type": "llama", "head_dim": 16, "rope_theta": 50.0, "rope_scaling": {"rope_type": "llama3"} | LLAMA3},
  "llama_linear": BASE
  | {"model_type": "llama", "rope_scaling": {"type": "linear", "factor": 4.0}, "attention_bias": True}
  | {"mlp_bias": True},
  "mistral": BASE | {"model_type": "mistral", "sliding_window": 12, "num_attention_heads": 4, "head_dim": 12},
  "qwen2": BASE
  | {"model_type": "qwen2", "use_sliding_window": True, "sliding_window": 12, "max_window_layers": 2}
  | {"rope_theta": 1000.0},
  "qwen3": BASE | {"model_type": "qwen3", "head_dim": 16, "tie_word_embeddings": True, "rope_theta": 1000.0},
  "gemma2": GEMMA | {"model_type": "gemma2", "attn_logit_softcapping": 2.0, "final_logit_softcapping": 5.0},
  "gemma3_text": GEMMA3 | {"model_type": "gemma3_text", "sliding_window_pattern": 3, "final_logit_softcapping": 6.0},
  "gemma3": {
    "model_type": "gemma3",
    "text_config": GEMMA3
    | {"model_type": "gemma3_text", "rope_scaling": {"rope_type": "linear", "factor": 8.0}}
    | {"sliding_window_pattern": 2},
    "vision_config": {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    | {"image_size": 28, "patch_size": 14, "model_type": "siglip_vision_model"},
    "mm_tokens_per_image": 4,
    "image_token_index": 63,
    "boi_token_index": 62,
    "eoi_token_index": 61,
  },
  "smollm3": BASE
  | {"model_type": "smollm3", "no_rope_layer_interval": 3, "rope_theta": 1000.0, "use_sliding_window": True}
  | {"sliding_window": 12, "tie_word_embeddings": True},
}


def weight(name: str, shape: tuple[int, ...]) -> np.ndarray:
  """A tensor's values, float32, from its name alone; norms and biases are random too."""
  generator = np.random.default_rng(zlib.crc32(name.encode()))
  if "norm" in name:
    values = generator.uniform(-0.5, 0.5, shape)  # the caller adds one where norms do not
  elif len(shape) == 1 or "embed_tokens" in name:
    values = generator.normal(0, 0.5, shape)
  else:
    values = generator.normal(0, 1.5 * shape[-1] ** -0.5, shape)
  return values.astype(np.float32)


def weights(family: str, shapes: dict[str, Any]) -> dict[str, np.ndarray]:
  """All tensors of a family. Gemma's norms scale by one more than what is stored, and its embeddings are multiplied."""
  gemma = family.startswith("gemma")
  made = {name: weight(name, tuple(shape)) for name, shape in shapes.items()}
  for name, values in made.items():
    if "norm" in name and not gemma:
      values += 1.0
    if gemma and ".post_" in name:  # else a tied head repeats the token that it is given
      values += 2.0
    if gemma and "embed_tokens" in name:
      values *= 0.5
  return made


def prompts() -> list[list[int]]:
  generator = np.random.default_rng(3)
  return [generator.integers(3, 60, count).tolist() for count in (45, 29)]


def build(family: str) -> tuple[Any, dict[str, Any]]:
  """The model with its weights in place, and the shapes of its text tensors."""
  import torch
  from transformers import AutoConfig, AutoModelForCausalLM

  given = dict(CONFIGS[family])
  config = AutoConfig.for_model(given.pop("model_type"), **json.loads(json.dumps(given)))
  torch.manual_seed(0)
  model = AutoModelForCausalLM.from_config(config, attn_implementation="eager").float().eval()
  state = model.state_dict()
  shapes = {name: list(value.shape) for name, value in state.items() if "vision" not in name and "multi" not in name}
  tied = (given.get("text_config") or given)["tie_word_embeddings"]
  if tied:
    shapes.pop("lm_head.weight")
  with torch.no_grad():
    for name, values in weights(family, shapes).items():
      state[name].copy_(torch.from_numpy(values))
  if tied:
    assert state["lm_head.weight"].data_ptr() == state[next(n for n in state if "embed_tokens" in n)].data_ptr()
  return model, shapes


def greedy(model: Any) -> tuple[list[int], list[int], float]:
  """A prompt and its continuation: the first of a few that does not run in a small circle or hang on a hair."""
  for seed in range(100):
    ids = np.random.default_rng(seed).integers(3, 60, 29).tolist()
    chosen, margin = continuation(model, ids)
    if len(set(chosen)) >= 9 and margin > 4e-3:
      return ids, chosen, margin
  raise AssertionError("no prompt has a continuation to tell models apart by")


def continuation(model: Any, ids: list[int]) -> tuple[list[int], float]:
  import torch

  whole, margins = list(ids), []
  for _ in range(NEW_TOKENS):
    best = model(torch.tensor([whole]), use_cache=False).logits[0, -1].topk(2)
    margins.append(float(best.values[0] - best.values[1]))
    whole.append(int(best.indices[0]))
  return whole[len(ids) :], min(margins)


def gradients(model: Any) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
  """Loss and gradients by their place, and what PEFT calls things."""
  import torch
  from peft import LoraConfig, get_peft_model, get_peft_model_state_dict

  nested = "language_model" in "".join(name for name, _ in model.named_modules())
  chosen = r".*language_model\.layers\..*\.(q_proj|v_proj)" if nested else ["q_proj", "v_proj"]
  adapted = get_peft_model(model, LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules=chosen, task_type="CAUSAL_LM"))
  adapted.eval()
  named = {name: value for name, value in adapted.named_parameters() if ".lora_" in name}
  with torch.no_grad():
    for name, value in named.items():
      value.copy_(torch.from_numpy(weight(place(name), tuple(value.shape))))
  ids = torch.tensor([prompts()[0]])
  logits = adapted(ids).logits[0, -TARGETS - 1 : -1].double()
  loss = torch.nn.functional.cross_entropy(logits, ids[0, -TARGETS:])
  loss.backward()
  arrays = {f"gradient.{place(name)}": value.grad.numpy() for name, value in named.items()}
  return {"loss": np.float32(loss.item()), **arrays}, {"names": sorted(get_peft_model_state_dict(adapted))}


def place(name: str) -> str:
  """`L.q.A` of PEFT's name of an adapter's matrix."""
  parts = name.split(".")
  matrix = next(part for part in parts if part.startswith("lora_"))
  module = next(part for part in parts if part.endswith("_proj"))
  return f"{parts[parts.index('layers') + 1]}.{module[0]}.{matrix[-1]}"


def main() -> None:
  import torch

  torch.set_num_threads(1)
  folder, described, arrays = Path(__file__).parent, {}, {}
  for family in CONFIGS:
    model, shapes = build(family)
    with torch.no_grad():
      for number, ids in enumerate(prompts()):
        arrays[f"{family}.logits.{number}"] = model(torch.tensor([ids]), use_cache=False).logits[0].numpy()
      ids, chosen, margin = greedy(model)
    config = json.loads(model.config.to_json_string())
    arrays |= {f"{family}.prompt": np.array(ids, np.int32), f"{family}.greedy": np.array(chosen, np.int32)}
    found, adapter = gradients(model)
    arrays |= {f"{family}.{name}": values for name, values in found.items()}
    described[family] = {"config": config, "shapes": shapes, "adapter": adapter}
    spread = arrays[f"{family}.logits.0"].std()
    print(f"{family}: {len(set(chosen))} distinct, margin {margin:.4f}, logits ±{spread:.2f}, loss {found['loss']:.4f}")
  (folder / "families.json").write_text(json.dumps(described).replace('"config":', '\n"config":') + "\n")
  np.savez_compressed(folder / "families.npz", **arrays)


if __name__ == "__main__":
  main()
