"""Records what PEFT computes with adapters of every kind on small random models of both families.

Run it in an environment of its own, with torch 2.13, transformers 5.23 and peft 0.21:

    python tests/golden/make_adapters.py           records
    python tests/golden/make_adapters.py FOLDER    checks adapters that we wrote instead (`KIND/FAMILY` below FOLDER)

All is float32. `tensors` and `rows` need numpy alone: the tests make the same models from them. It writes adapters.npz
beside itself, for every family F and kind K:

F.K.config: PEFT's adapter_config.json; F.K.file.NAME: the tensors that PEFT saved; F.K.logits.N: of row N, at its
targets; F.K.loss: mean cross-entropy of all targets; F.K.gradient.NAME: its gradients under the names of the file.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

LLAMA = {
  "model_type": "llama",
  "vocab_size": 97,
  "hidden_size": 32,
  "num_hidden_layers": 3,
  "num_attention_heads": 4,
  "num_key_value_heads": 2,
  "head_dim": 8,
  "intermediate_size": 48,
  "max_position_embeddings": 256,
  "rope_theta": 10_000.0,
  "rms_norm_eps": 1e-5,
  "tie_word_embeddings": False,
}
T5 = {
  "model_type": "t5",
  "vocab_size": 103,
  "d_model": 32,
  "d_kv": 8,
  "num_heads": 3,
  "num_layers": 3,
  "num_decoder_layers": 2,
  "d_ff": 40,
  "feed_forward_proj": "gated-gelu",
  "decoder_start_token_id": 0,
  "pad_token_id": 0,
  "eos_token_id": 1,
  "layer_norm_epsilon": 1e-6,
  "tie_word_embeddings": False,
}
FAMILIES: dict[str, dict[str, Any]] = {"llama": LLAMA, "t5": T5}
TASK = {"llama": "CAUSAL_LM", "t5": "SEQ_2_SEQ_LM"}
QUERY_VALUE = {"llama": ["q_proj", "v_proj"], "t5": ["q", "v"]}
LOW_RANK = {"r": 3, "lora_alpha": 5}
PATTERNS = {  # a layer's own rank, a module's own alpha
  "llama": {"rank_pattern": {r"layers\.1\.self_attn\.q_proj": 5}, "alpha_pattern": {"v_proj": 7}},
  "t5": {"rank_pattern": {r"encoder\.block\.1\.layer\.0\.SelfAttention\.q": 5}, "alpha_pattern": {"v": 7}},
}
KINDS = ("lora", "rslora", "patterns", "dora", "ia3", "prompt")
LENGTHS = ((21, 7), (9, 12))


def tensors(family: str) -> dict[str, np.ndarray]:
  """Every weight under Hugging Face's name: kernels that keep the variance, norms about one."""
  generator, found = np.random.default_rng(7), {}
  for name, shape in sorted(_shapes(family).items()):
    if len(shape) == 1:
      values = generator.uniform(0.5, 1.5, shape)
    elif "embed" in name or "shared" in name or "relative" in name:
      values = generator.normal(0, 0.7, shape)
    else:
      values = generator.normal(0, shape[1] ** -0.5, shape)
    found[name] = values.astype(np.float32)
  return found


def _shapes(family: str) -> dict[str, tuple[int, ...]]:
  c = FAMILIES[family]
  if family == "llama":
    d, ffn, kv = c["hidden_size"], c["intermediate_size"], c["num_key_value_heads"] * c["head_dim"]
    found: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (c["vocab_size"], d), "model.norm.weight": (d,)}
    found["lm_head.weight"] = (c["vocab_size"], d)
    for n in range(c["num_hidden_layers"]):
      place = f"model.layers.{n}"
      found |= {f"{place}.{norm}.weight": (d,) for norm in ("input_layernorm", "post_attention_layernorm")}
      found |= {f"{place}.self_attn.{name}_proj.weight": (d, d) for name in "qo"}
      found |= {f"{place}.self_attn.{name}_proj.weight": (kv, d) for name in "kv"}
      found |= {f"{place}.mlp.{name}_proj.weight": (ffn, d) for name in ("gate", "up")}
      found[f"{place}.mlp.down_proj.weight"] = (d, ffn)
    return found
  d, inner, ffn = c["d_model"], c["num_heads"] * c["d_kv"], c["d_ff"]
  found = {"shared.weight": (c["vocab_size"], d), "lm_head.weight": (c["vocab_size"], d)}
  attention = {"q": (inner, d), "k": (inner, d), "v": (inner, d), "o": (d, inner)}
  dense = {"wi_0": (ffn, d), "wi_1": (ffn, d), "wo": (d, ffn)}
  blocks = {"encoder": {"SelfAttention": attention, "DenseReluDense": dense}}
  blocks["decoder"] = {"SelfAttention": attention, "EncDecAttention": attention, "DenseReluDense": dense}
  for stack, count in (("encoder", c["num_layers"]), ("decoder", c["num_decoder_layers"])):
    found[f"{stack}.block.0.layer.0.SelfAttention.relative_attention_bias.weight"] = (32, c["num_heads"])
    found[f"{stack}.final_layer_norm.weight"] = (d,)
    for block in range(count):
      for layer, (kind, parts) in enumerate(blocks[stack].items()):
        place = f"{stack}.block.{block}.layer.{layer}"
        found[f"{place}.layer_norm.weight"] = (d,)
        found |= {f"{place}.{kind}.{part}.weight": shape for part, shape in parts.items()}
  return found


def rows(family: str) -> list[tuple[np.ndarray, np.ndarray]]:
  """Prompt and target ids."""
  generator, size = np.random.default_rng(8), FAMILIES[family]["vocab_size"]
  ids = lambda n: generator.integers(2, size, n).astype(np.int32)  # noqa: E731
  return [(ids(prompt), ids(target)) for prompt, target in LENGTHS]


def load(family: str) -> Any:
  import torch
  import transformers

  config = {key: value for key, value in FAMILIES[family].items() if key != "model_type"}
  if family == "llama":
    model = transformers.LlamaForCausalLM(transformers.LlamaConfig(**config))
  else:
    model = transformers.T5ForConditionalGeneration(transformers.T5Config(**config))
    model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.detach().clone())  # which transformers 5 ties
  parameters, weights = dict(model.named_parameters()), tensors(family)
  assert set(parameters) == set(weights), set(parameters) ^ set(weights)
  with torch.no_grad():
    for name, values in weights.items():
      parameters[name].copy_(torch.from_numpy(values))
  return model.eval()


def logits_of(model: Any, family: str) -> list[Any]:
  """Logits [T, V] of each row's targets, one row at a time."""
  import torch

  found = []
  for prompt, target in rows(family):
    source, wanted = torch.from_numpy(prompt)[None].long(), torch.from_numpy(target)[None].long()
    if family == "t5":
      start = torch.cat([torch.zeros(1, 1, dtype=torch.long), wanted[:, :-1]], 1)
      # Soft prompts stand before the encoder's input alone: in `generate`, and in `forward` where one stack has them.
      found.append(model(input_ids=source, decoder_input_ids=start, attention_mask=torch.ones_like(source)).logits[0])
    else:
      both = torch.cat([source, wanted[:, :-1]], 1)
      found.append(model(input_ids=both, attention_mask=torch.ones_like(both)).logits[0, -len(target) :])
  return found


def adapted(family: str, kind: str) -> Any:
  """A model with an adapter of random parameters, by PEFT."""
  import peft
  import torch

  task, low = TASK[family], {**LOW_RANK, "target_modules": QUERY_VALUE[family]}
  if kind == "ia3":
    names = {"llama": (["k_proj", "v_proj", "down_proj"], ["down_proj"]), "t5": (["k", "v", "wo"], ["wo"])}[family]
    config: Any = peft.IA3Config(task_type=task, target_modules=names[0], feedforward_modules=names[1])
  elif kind == "prompt":
    config = peft.PromptTuningConfig(task_type=task, num_virtual_tokens=5, num_transformer_submodules=1)
  else:
    more = {"rslora": {"use_rslora": True}, "dora": {"use_dora": True}, "patterns": PATTERNS[family]}.get(kind, {})
    config = peft.LoraConfig(task_type=task, **low, **more)
  model = peft.get_peft_model(load(family), config)
  generator = np.random.default_rng(KINDS.index(kind))
  with torch.no_grad():
    for _, parameter in sorted((n, p) for n, p in model.named_parameters() if p.requires_grad):
      values = torch.from_numpy(generator.normal(0, 0.2, tuple(parameter.shape)).astype(np.float32))
      parameter.copy_(values if kind in ("lora", "rslora", "patterns") else parameter + values)
  return model.eval()


def record(family: str, kind: str) -> dict[str, np.ndarray]:
  import torch
  from safetensors.numpy import load_file

  model = adapted(family, kind)
  logits = logits_of(model, family)
  targets = torch.cat([torch.from_numpy(target).long() for _, target in rows(family)])
  loss = torch.nn.functional.cross_entropy(torch.cat(logits).double(), targets)
  loss.backward()
  arrays: dict[str, Any] = {f"logits.{n}": found.detach().numpy() for n, found in enumerate(logits)}
  arrays["loss"] = np.float32(loss.item())
  with tempfile.TemporaryDirectory() as folder:
    model.save_pretrained(folder)
    arrays["config"] = np.str_((Path(folder) / "adapter_config.json").read_text())
    arrays |= {f"file.{n}": values for n, values in load_file(Path(folder) / "adapter_model.safetensors").items()}
    with torch.no_grad():  # the gradients, under the names that PEFT gives parameters when it saves them
      for parameter in model.parameters():
        if parameter.requires_grad:
          parameter.copy_(parameter.grad)
    model.save_pretrained(folder)
    arrays |= {f"gradient.{n}": values for n, values in load_file(Path(folder) / "adapter_model.safetensors").items()}
  return {f"{family}.{kind}.{name}": value for name, value in arrays.items()}


def check(folder: Path) -> None:
  """Loads what we wrote with PEFT, and compares its logits with ours in `logits.npz` beside each."""
  import peft

  for place in sorted(path.parent for path in folder.glob("*/*/adapter_config.json")):
    family = place.name
    described = json.loads((place / "adapter_config.json").read_text())
    model = peft.PeftModel.from_pretrained(load(family), str(place)).eval()
    with np.load(place / "logits.npz") as ours:
      apart = max(
        float(np.abs(found.detach().numpy() - ours[str(n)]).max()) for n, found in enumerate(logits_of(model, family))
      )
    print(f"{place.parent.name}/{family} ({described['peft_type']}): logits {apart:.1e} apart")
    assert apart < 1e-4, place


def main() -> None:
  import torch

  torch.set_num_threads(1)
  if len(sys.argv) > 1:
    return check(Path(sys.argv[1]))
  arrays: dict[str, np.ndarray] = {}
  for family in FAMILIES:
    for kind in KINDS:
      arrays |= record(family, kind)
      print(family, kind, float(arrays[f"{family}.{kind}.loss"]))
  np.savez_compressed(Path(__file__).parent / "adapters.npz", **arrays)


if __name__ == "__main__":
  main()
