"""From a checkpoint's `config.json`, as transformers 4 or 5 writes it, to our configuration: one row a family."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from fiat_jax.errors import UserError
from fiat_jax.models.config import DecoderConfig, LayerKind, Rotary

Keys = Mapping[str, Any]

# What a `config.json` leaves out is what transformers' configuration of that family begins with.
_GEMMA: dict[str, Any] = {
  "num_attention_heads": 8,
  "num_key_value_heads": 4,
  "head_dim": 256,
  "rms_norm_eps": 1e-6,
  "query_pre_attn_scalar": 256,
  "sliding_window": 4096,
  "tie_word_embeddings": True,
}
DEFAULTS: dict[str, dict[str, Any]] = {
  "llama": {},
  "mistral": {"rms_norm_eps": 1e-6, "sliding_window": 4096, "num_key_value_heads": 8},
  "qwen2": {"rms_norm_eps": 1e-6, "max_window_layers": 28, "sliding_window": 4096},
  "qwen3": {"rms_norm_eps": 1e-6, "max_window_layers": 28, "sliding_window": 4096, "head_dim": 128},
  "smollm3": {"rms_norm_eps": 1e-6, "no_rope_layer_interval": 4, "rope_theta": 2e6, "tie_word_embeddings": True},
  "gemma2": _GEMMA
  | {"attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0, "max_position_embeddings": 8192}
  | {"sliding_window_pattern": 2, "vocab_size": 256_000},
  "gemma3_text": _GEMMA
  | {"max_position_embeddings": 131_072, "sliding_window_pattern": 6, "vocab_size": 262_208}
  | {"rope_theta": 1e6, "rope_local_base_freq": 10_000.0},
}
ARCHITECTURES = (*DEFAULTS, "gemma3")
_ACTIVATIONS: dict[str, Literal["silu", "gelu_tanh"]] = {"silu": "silu", "gelu_pytorch_tanh": "gelu_tanh"}
_REFUSED = ("use_bidirectional_attention", "quantization_config", "num_experts", "num_local_experts")


def decoder_config(config: Keys, path: str, dtype: str) -> DecoderConfig:
  """Our configuration from the keys of a Hugging Face `config.json`.

  Raises:
    UserError: an architecture, or a feature of one, that this module does not compute.
  """
  stem = "model"
  if config.get("model_type") == "gemma3":  # text and pictures: the pictures' part is left alone
    inherited = {key: config[key] for key in ("tie_word_embeddings", "quantization_config") if key in config}
    config, stem = (
      inherited | {"model_type": "gemma3_text"} | dict(config.get("text_config") or {}),
      "model.language_model",
    )
  kind = config.get("model_type")
  if kind not in DEFAULTS:
    raise UserError(f"is of the architecture {kind!r}; there is {', '.join(ARCHITECTURES)}", path)
  config = DEFAULTS[kind] | dict(config)
  for key in _REFUSED:
    if config.get(key):
      raise UserError(f"has {key} ({config[key]!r:.60}), which is not computed here: choose another checkpoint", path)
  activation = config.get("hidden_activation") or config.get("hidden_act") or "silu"
  if kind.startswith("gemma"):  # transformers, too, reads `hidden_activation` alone
    activation = config.get("hidden_activation") or "gelu_pytorch_tanh"
  if activation not in _ACTIVATIONS:
    raise UserError(f"has the activation {activation!r}; there is {', '.join(_ACTIVATIONS)}", path)
  bias, gemma = bool(config.get("attention_bias")), kind.startswith("gemma")
  try:
    heads, width = config["num_attention_heads"], config["hidden_size"]
    head_dim = config.get("head_dim") or width // heads
    return DecoderConfig(
      vocab_size=config["vocab_size"],
      width=width,
      layers=config["num_hidden_layers"],
      heads=heads,
      kv_heads=config.get("num_key_value_heads") or heads,
      head_dim=head_dim,
      ffn_width=config["intermediate_size"],
      max_length=config["max_position_embeddings"],
      kinds=_kinds(kind, config, head_dim, path),
      norm_epsilon=config.get("rms_norm_eps", 1e-5 if kind == "llama" else 1e-6),
      tied_head=bool(config.get("tie_word_embeddings", False)),
      activation=_ACTIVATIONS[activation],
      qkv_bias=kind == "qwen2" or bias,
      out_bias=kind != "qwen2" and bias,
      ffn_bias=bool(config.get("mlp_bias")),
      qk_norms=kind in ("qwen3", "gemma3_text"),
      post_norms=gemma,
      unit_offset=gemma,
      scaled_embedding=gemma,
      query_scale=config["query_pre_attn_scalar"] ** -0.5 if gemma else None,
      # transformers' Gemma 3 knows this key and does not apply it; no published checkpoint sets it.
      attention_softcap=config.get("attn_logit_softcapping") if kind == "gemma2" else None,
      logit_softcap=config.get("final_logit_softcapping") if gemma else None,
      stem=stem,
      dtype=dtype,
    )
  except KeyError as e:
    raise UserError(f"its configuration lacks {e.args[0]!r}: the checkpoint is not complete", path) from None


def _kinds(kind: str, config: Keys, head_dim: int, path: str) -> tuple[LayerKind, ...]:
  """The kind of each layer, or of all where they do not differ."""
  count = config["num_hidden_layers"]
  sliding, turning = _sliding(kind, config, count, path), _turning(kind, config, count)
  window = config.get("sliding_window")
  usual, local = (_rotary(config, head_dim, path, local=local) for local in (False, True))
  kinds = [
    LayerKind(rotary=(local if near else usual) if turns else None, window=window if near else None)
    for near, turns in zip(sliding, turning, strict=True)
  ]
  return tuple(kinds[:1] if len(set(kinds)) == 1 else kinds)


def _sliding(kind: str, config: Keys, count: int, path: str) -> Sequence[bool]:
  """Which layers see a window alone."""
  has_window = bool(config.get("sliding_window"))
  if kind in ("qwen2", "qwen3", "smollm3"):
    has_window &= bool(config.get("use_sliding_window"))
  types = config.get("layer_types")
  if kind in ("llama", "mistral") or not has_window:
    return [has_window and kind == "mistral"] * count
  if types is None:
    if kind == "smollm3":
      return [not turns for turns in _turning(kind, config, count)]
    if kind.startswith("gemma"):
      return [bool((n + 1) % config["sliding_window_pattern"]) for n in range(count)]
    return [n >= config["max_window_layers"] for n in range(count)]
  if strange := sorted(set(types) - {"full_attention", "sliding_attention"}):
    raise UserError(f"has layers of the type {strange[0]!r}, which is not computed here", path)
  if len(types) < count:
    raise UserError(f"names the types of {len(types)} layers, and has {count}: the checkpoint is not complete", path)
  return [name == "sliding_attention" for name in types[:count]]


def _turning(kind: str, config: Keys, count: int) -> Sequence[bool]:
  """Which layers use rotary embedding; the others see no positions but through the mask."""
  if kind != "smollm3":
    return [True] * count
  stored = config.get("no_rope_layers")  # 1 where a layer does turn, whatever the name says
  return (
    [bool(n) for n in stored[:count]]
    if stored
    else [bool((n + 1) % config["no_rope_layer_interval"]) for n in range(count)]
  )


def _rotary(config: Keys, head_dim: int, path: str, *, local: bool) -> Rotary:
  """The rotary embedding of a model's usual layers, or of those that see a window alone."""
  stored = config.get("rope_parameters") or {}  # transformers 5
  apart = "full_attention" in stored or "sliding_attention" in stored
  if apart:
    stored = stored.get("sliding_attention" if local else "full_attention") or {}
  scaling = stored if apart else config.get("rope_scaling") or stored
  theta = stored.get("rope_theta") or config.get("rope_theta") or 10_000.0
  if local and "rope_local_base_freq" in config:  # Gemma 3: the scaling is that of its global layers
    theta = stored.get("rope_theta") if apart else config["rope_local_base_freq"]
    scaling = stored if apart else {}
  theta = float(theta or 10_000.0)
  if (part := scaling.get("partial_rotary_factor", config.get("partial_rotary_factor")) or 1.0) != 1.0:
    raise UserError(f"turns {part} of each head (partial_rotary_factor), which is not computed here", path)
  return Rotary(theta=theta, divisors=_divisors(scaling, theta, head_dim, path))


def _divisors(scaling: Keys, theta: float, head_dim: int, path: str) -> tuple[float, ...]:
  kind = scaling.get("rope_type") or scaling.get("type") or "default"
  ways: dict[str, Callable[[], tuple[float, ...]]] = {
    "default": lambda: (),
    "linear": lambda: (float(scaling["factor"]),) * (head_dim // 2),
    "llama3": lambda: _llama3(scaling, theta, head_dim),
    "divisors": lambda: tuple(float(x) for x in scaling["divisors"]),  # as GGUF files keep it
  }
  if kind not in ways:
    raise UserError(f"scales its rotary positions by {kind!r}; there is linear and llama3", path)
  return ways[kind]()


def _llama3(scaling: Keys, theta: float, head_dim: int) -> tuple[float, ...]:
  """Llama 3.1: long waves are stretched by `factor`, short ones kept, those between mixed."""
  factor, original = scaling["factor"], scaling["original_max_position_embeddings"]
  low, high = scaling["low_freq_factor"], scaling["high_freq_factor"]
  divisors = []
  for n in range(head_dim // 2):
    turns = original * theta ** (-2 * n / head_dim) / (2 * math.pi)  # of a wave, over the original length
    kept = min(1.0, max(0.0, (turns - low) / (high - low)))
    divisors.append(1.0 / (kept + (1.0 - kept) / factor))
  return tuple(divisors)
