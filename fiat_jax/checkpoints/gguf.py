"""GGUF checkpoints: tensors dequantized, renamed and reordered to Hugging Face's layout.

The tokenizer that a GGUF file carries is built in `fiat_jax.data.tokenizer`; models are not known here.
"""

from __future__ import annotations

import dataclasses
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
from gguf.quants import dequantize

from fiat_jax.checkpoints.gguf_header import Header, StoredTensor, read_header
from fiat_jax.checkpoints.source import fingerprint, no_such_tensor
from fiat_jax.errors import UserError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Architecture:
  """How one GGUF `general.architecture` maps to Hugging Face.

  Attributes:
    model_type: `model_type` of the Hugging Face configuration.
    model_class: its `architectures` entry.
    permuted: whether query and key rows are stored for interleaved rotary pairs.
  """

  model_type: str
  model_class: str
  permuted: bool


ARCHITECTURES = {
  "llama": Architecture(model_type="llama", model_class="LlamaForCausalLM", permuted=True),
  "qwen2": Architecture(model_type="qwen2", model_class="Qwen2ForCausalLM", permuted=False),
  "qwen3": Architecture(model_type="qwen3", model_class="Qwen3ForCausalLM", permuted=False),
}

_TOP_NAMES = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
_LAYER_NAMES = {
  "attn_norm": "input_layernorm",
  "attn_q": "self_attn.q_proj",
  "attn_k": "self_attn.k_proj",
  "attn_v": "self_attn.v_proj",
  "attn_output": "self_attn.o_proj",
  "attn_q_norm": "self_attn.q_norm",
  "attn_k_norm": "self_attn.k_norm",
  "ffn_norm": "post_attention_layernorm",
  "ffn_gate": "mlp.gate_proj",
  "ffn_up": "mlp.up_proj",
  "ffn_down": "mlp.down_proj",
}


class GGUFCheckpoint:
  """A GGUF file as a `CheckpointSource`. Raises UserError where it is damaged or of an unknown architecture."""

  def __init__(self, path: Path):
    self.path = path
    header = read_header(path)
    name = header.metadata.get("general.architecture")
    if name not in ARCHITECTURES:
      known = ", ".join(ARCHITECTURES)
      raise UserError(f"GGUF architecture {name!r} is not supported: use one of {known}", path=path)
    self._architecture = ARCHITECTURES[name]
    self._tensors = {_hugging_face_name(stored, path): tensor for stored, tensor in header.tensors.items()}
    self.config = _config(header, name, path)
    self._bytes = np.memmap(path, np.uint8, mode="r")

  def names(self) -> list[str]:
    return sorted(self._tensors)

  def shape(self, name: str) -> tuple[int, ...]:
    return self._tensor(name).shape

  def read(self, name: str) -> np.ndarray:
    tensor = self._tensor(name)
    raw = self._bytes[tensor.offset : tensor.offset + math.prod(tensor.stored_shape)].reshape(tensor.stored_shape)
    try:
      values = dequantize(raw, tensor.kind)
    except NotImplementedError as error:
      raise UserError(
        f"{name} is stored as {tensor.kind.name}: use a file quantized as Q8_0", path=self.path
      ) from error
    values = np.array(values, np.float32)
    heads = {"q_proj": "num_attention_heads", "k_proj": "num_key_value_heads"}.get(name.split(".")[-2])
    if heads is None or not self._architecture.permuted:
      return values
    if values.shape[0] != (rows := self.config[heads] * self.config["head_dim"]):
      raise UserError(
        f"{name} has {values.shape[0]} rows, and the metadata ask for {rows}: is it damaged?", path=self.path
      )
    return _rotary_halves(values, self.config[heads])

  @property
  def fingerprint(self) -> str:
    return fingerprint(self.config, {name: tensor.shape for name, tensor in self._tensors.items()}, [self.path])

  def _tensor(self, name: str) -> StoredTensor:
    if name not in self._tensors:
      raise no_such_tensor(self.path, name)
    return self._tensors[name]


def _rotary_halves(rows: np.ndarray, heads: int) -> np.ndarray:
  """Reorders each head's rows from interleaved pairs (0, h, 1, h+1, …) to halves (0, 1, …, h, h+1, …)."""
  pairs = rows.reshape(heads, rows.shape[0] // heads // 2, 2, *rows.shape[1:])
  return np.ascontiguousarray(pairs.swapaxes(1, 2)).reshape(rows.shape)


def _hugging_face_name(name: str, path: Path) -> str:
  stem, _, kind = name.rpartition(".")
  layer = re.fullmatch(r"blk\.(\d+)\.(\w+)", stem)
  if layer and layer[2] in _LAYER_NAMES:
    return f"model.layers.{layer[1]}.{_LAYER_NAMES[layer[2]]}.{kind}"
  if stem in _TOP_NAMES:
    return f"{_TOP_NAMES[stem]}.{kind}"
  # Leaving out a tensor that matters (experts, rotary factors) would give a model that is wrong and half plausible.
  raise UserError(f"tensor {name!r} is of a kind that is not supported: use a plain dense model", path=path)


def _config(header: Header, name: str, path: Path) -> dict[str, Any]:
  def number(key: str, default: Any = None, kind: type | tuple[type, ...] = int) -> Any:
    value = header.metadata.get(f"{name}.{key}", default)
    if not isinstance(value, kind) or isinstance(value, bool) or not value > 0:
      raise UserError(f"{name}.{key} is {value!r} in the metadata: is this file a whole model?", path=path)
    return value

  embedding = header.tensors.get("token_embd.weight")
  if embedding is None:
    raise UserError("the file holds no token_embd.weight: is it a whole model?", path=path)
  heads = number("attention.head_count")
  head_dim = number("attention.key_length", number("embedding_length") // heads)
  if number("rope.dimension_count", head_dim) != head_dim:
    raise UserError("rotary embeddings over a part of each head are not supported", path=path)
  config = {
    "model_type": ARCHITECTURES[name].model_type,
    "architectures": [ARCHITECTURES[name].model_class],
    "hidden_size": number("embedding_length"),
    "num_hidden_layers": number("block_count"),
    "num_attention_heads": heads,
    "num_key_value_heads": number("attention.head_count_kv", heads),
    "head_dim": head_dim,
    "intermediate_size": number("feed_forward_length"),
    "hidden_act": "silu",
    "vocab_size": embedding.shape[0],
    "max_position_embeddings": number("context_length"),
    "rope_theta": number("rope.freq_base", 10000.0, kind=(int, float)),
    "rms_norm_eps": number("attention.layer_norm_rms_epsilon", kind=float),
    "attention_bias": "blk.0.attn_q.bias" in header.tensors,
    "tie_word_embeddings": "output.weight" not in header.tensors,
  }
  if (scaling := header.metadata.get(f"{name}.rope.scaling.type", "none")) != "none":
    config["rope_scaling"] = {"rope_type": scaling, "factor": number("rope.scaling.factor", 1.0, kind=(int, float))}
  for key, stored in {"bos": "bos", "eos": "eos", "pad": "padding"}.items():
    if (token := header.metadata.get(f"tokenizer.ggml.{stored}_token_id")) is not None:
      config[f"{key}_token_id"] = token
  return config
