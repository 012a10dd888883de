"""GGUF checkpoints: tensors dequantized, renamed and reordered to Hugging Face's layout.

The tokenizer that a GGUF file carries is built in `fiat_jax.data.tokenizer`; models are not known here.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from gguf.quants import dequantize

from fiat_jax.checkpoints.gguf_header import Header, StoredTensor, read_header
from fiat_jax.checkpoints.source import fingerprint, no_such_tensor
from fiat_jax.errors import UserError

if TYPE_CHECKING:
  from fiat_jax.models.registry import Naming

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
_GEMMA_NAMES = _LAYER_NAMES | {
  "post_attention_norm": "post_attention_layernorm",
  "ffn_norm": "pre_feedforward_layernorm",
  "post_ffw_norm": "post_feedforward_layernorm",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Architecture:
  """How one GGUF `general.architecture` maps to Hugging Face.

  Attributes:
    model_type: `model_type` of the Hugging Face configuration.
    model_class: its `architectures` entry.
    permuted: whether query and key rows are stored for interleaved rotary pairs.
    norm_offset: what norm scales are stored with on top.
    layer_names: of a layer's tensors.
    activation: the FFN's.
  """

  model_type: str
  model_class: str
  permuted: bool = False
  norm_offset: float = 0.0
  layer_names: Mapping[str, str] = dataclasses.field(default_factory=lambda: _LAYER_NAMES)
  activation: str = "silu"


ARCHITECTURES = {
  "llama": Architecture(model_type="llama", model_class="LlamaForCausalLM", permuted=True),  # and Mistral
  "qwen2": Architecture(model_type="qwen2", model_class="Qwen2ForCausalLM"),
  "qwen3": Architecture(model_type="qwen3", model_class="Qwen3ForCausalLM"),
  "smollm3": Architecture(model_type="smollm3", model_class="SmolLM3ForCausalLM", permuted=True),
  "gemma3": Architecture(
    model_type="gemma3_text",
    model_class="Gemma3ForCausalLM",
    norm_offset=1.0,
    layer_names=_GEMMA_NAMES,
    activation="gelu_pytorch_tanh",
  ),
}
_ROTARY_DIVISORS = "rope_freqs.weight"  # Llama 3.1's scaling: what each frequency is divided by


class GGUFCheckpoint:
  """A GGUF file as a `CheckpointSource`. Raises UserError where it is damaged or of an unknown architecture."""

  naming: Naming = "hugging_face"

  def __init__(self, path: Path):
    self.path = path
    header = read_header(path)
    name = header.metadata.get("general.architecture")
    if name not in ARCHITECTURES:
      known = ", ".join(ARCHITECTURES)
      raise UserError(f"GGUF architecture {name!r} is not supported: use one of {known}", path=path)
    self._architecture = ARCHITECTURES[name]
    names = self._architecture.layer_names
    self._tensors = {
      _hugging_face_name(stored, names, path): tensor
      for stored, tensor in header.tensors.items()
      if stored != _ROTARY_DIVISORS
    }
    self._bytes = np.memmap(path, np.uint8, mode="r")
    self.config = _config(header, name, path)
    if _ROTARY_DIVISORS in header.tensors:
      divisors = self._values(header.tensors[_ROTARY_DIVISORS], _ROTARY_DIVISORS).tolist()
      self.config["rope_scaling"] = {"rope_type": "divisors", "divisors": divisors}

  def names(self) -> list[str]:
    return sorted(self._tensors)

  def shape(self, name: str) -> tuple[int, ...]:
    return self._tensor(name).shape

  def read(self, name: str) -> np.ndarray:
    values = self._values(self._tensor(name), name)
    if self._architecture.norm_offset and name.endswith("norm.weight"):
      values -= self._architecture.norm_offset
    heads = {"q_proj": "num_attention_heads", "k_proj": "num_key_value_heads"}.get(name.split(".")[-2])
    if heads is None or not self._architecture.permuted:
      return values
    if values.shape[0] != (rows := self.config[heads] * self.config["head_dim"]):
      raise UserError(
        f"{name} has {values.shape[0]} rows, and the metadata ask for {rows}: is it damaged?", path=self.path
      )
    return _rotary_halves(values, self.config[heads])

  def _values(self, tensor: StoredTensor, name: str) -> np.ndarray:
    raw = self._bytes[tensor.offset : tensor.offset + math.prod(tensor.stored_shape)].reshape(tensor.stored_shape)
    try:
      return np.array(dequantize(raw, tensor.kind), np.float32)
    except NotImplementedError as error:
      raise UserError(
        f"{name} is stored as {tensor.kind.name}: use a file quantized as Q8_0", path=self.path
      ) from error

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


def _hugging_face_name(name: str, layer_names: Mapping[str, str], path: Path) -> str:
  stem, _, kind = name.rpartition(".")
  layer = re.fullmatch(r"blk\.(\d+)\.(\w+)", stem)
  if layer and layer[2] in layer_names:
    return f"model.layers.{layer[1]}.{layer_names[layer[2]]}.{kind}"
  if stem in _TOP_NAMES:
    return f"{_TOP_NAMES[stem]}.{kind}"
  # Leaving out a tensor that matters (experts, say) would give a model that is wrong and half plausible.
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
    "hidden_act": ARCHITECTURES[name].activation,
    "vocab_size": embedding.shape[0],
    "max_position_embeddings": number("context_length"),
    "rope_theta": number("rope.freq_base", 1e6 if name == "gemma3" else 10000.0, kind=(int, float)),
    "rms_norm_eps": number("attention.layer_norm_rms_epsilon", kind=float),
    "attention_bias": "blk.0.attn_q.bias" in header.tensors,
    "tie_word_embeddings": "output.weight" not in header.tensors,
  }
  if name == "gemma3":
    config |= _gemma3(number, head_dim)
  if (scaling := header.metadata.get(f"{name}.rope.scaling.type", "none")) != "none":
    config["rope_scaling"] = {"rope_type": scaling, "factor": number("rope.scaling.factor", 1.0, kind=(int, float))}
  for key, stored in {"bos": "bos", "eos": "eos", "pad": "padding"}.items():
    if (token := header.metadata.get(f"tokenizer.ggml.{stored}_token_id")) is not None:
      config[f"{key}_token_id"] = token
  return config


def _gemma3(number: Callable[..., Any], head_dim: int) -> dict[str, Any]:
  """What Gemma 3's metadata say, and what llama.cpp takes for granted: five local layers to a global one."""
  count, width, heads = number("block_count"), number("embedding_length"), number("attention.head_count")
  return {
    "sliding_window": number("attention.sliding_window"),
    "sliding_window_pattern": number("attention.sliding_window_pattern", 6),
    "rope_local_base_freq": number("rope.freq_base_swa", 10000.0, kind=(int, float)),
    "query_pre_attn_scalar": width // heads if count == 62 else head_dim,  # 62 layers: the 27B model alone
  }
