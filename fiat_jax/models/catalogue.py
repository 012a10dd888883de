"""What is known of the models under `gin/models/`, and the README's table of them.

`python -m fiat_jax.models.catalogue` prints the table. Shapes are those of the published configurations; parameters are
counted from the module that they give.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

from fiat_jax.models import registry
from fiat_jax.models.config import DecoderConfig
from fiat_jax.models.families import decoder_config
from fiat_jax.models.lora import count

LENGTH, TARGETS = 1024, 64  # tokens of a row, and targets among them
MEMORY, RESERVE = 24e9, 2e9  # bytes; the reserve is for the compiler, the adapter and what is not counted


class Known(NamedTuple):
  """A published model: languages, licence, and what its `config.json` says."""

  languages: str
  licence: str
  config: dict[str, Any]


_APACHE, _LLAMA2, _GEMMA, _ENGLISH = "Apache-2.0", "Llama 2 Community", "Gemma Terms of Use", "English"
_LLAMA3_LANGUAGES = "8: de, en, es, fr, hi, it, pt, th"


def _shape(kind: str, layers: int, width: int, heads: int, kv: int, ffn: int, vocabulary: int, **more: Any):
  return {
    "model_type": kind,
    "num_hidden_layers": layers,
    "hidden_size": width,
    "num_attention_heads": heads,
    "num_key_value_heads": kv,
    "intermediate_size": ffn,
    "vocab_size": vocabulary,
    "max_position_embeddings": 4096,  # at least; no parameter depends on it
    **more,
  }


_TIED = {"tie_word_embeddings": True}
MODELS: dict[str, Known] = {
  "smollm2_135m_instruct": Known(_ENGLISH, _APACHE, _shape("llama", 30, 576, 9, 3, 1536, 49152, **_TIED)),
  "smollm2_360m_instruct": Known(_ENGLISH, _APACHE, _shape("llama", 32, 960, 15, 5, 2560, 49152, **_TIED)),
  "smollm2_1_7b_instruct": Known(_ENGLISH, _APACHE, _shape("llama", 24, 2048, 32, 32, 8192, 49152, **_TIED)),
  "smollm3_3b": Known("6: de, en, es, fr, it, pt", _APACHE, _shape("smollm3", 36, 2048, 16, 4, 11008, 128256)),
  "gemma3_270m_it": Known("140", _GEMMA, _shape("gemma3_text", 18, 640, 4, 1, 2048, 262144)),
  "gemma3_1b_it": Known(_ENGLISH, _GEMMA, _shape("gemma3_text", 26, 1152, 4, 1, 6912, 262144)),
  "gemma3_4b_it": Known("140", _GEMMA, _shape("gemma3_text", 34, 2560, 8, 4, 10240, 262208)),
  "qwen2_5_0_5b_instruct": Known("29", _APACHE, _shape("qwen2", 24, 896, 14, 2, 4864, 151936, **_TIED)),
  "qwen2_5_1_5b_instruct": Known("29", _APACHE, _shape("qwen2", 28, 1536, 12, 2, 8960, 151936, **_TIED)),
  "qwen2_5_3b_instruct": Known("29", "Qwen Research", _shape("qwen2", 36, 2048, 16, 2, 11008, 151936, **_TIED)),
  "qwen2_5_7b_instruct": Known("29", _APACHE, _shape("qwen2", 28, 3584, 28, 4, 18944, 152064)),
  "qwen3_0_6b": Known("119", _APACHE, _shape("qwen3", 28, 1024, 16, 8, 3072, 151936, **_TIED)),
  "qwen3_1_7b": Known("119", _APACHE, _shape("qwen3", 28, 2048, 16, 8, 6144, 151936, **_TIED)),
  "qwen3_4b": Known("119", _APACHE, _shape("qwen3", 36, 2560, 32, 8, 9728, 151936, **_TIED)),
  "qwen3_8b": Known("119", _APACHE, _shape("qwen3", 36, 4096, 32, 8, 12288, 151936)),
  "llama3_2_1b_instruct": Known(
    _LLAMA3_LANGUAGES, "Llama 3.2 Community", _shape("llama", 16, 2048, 32, 8, 8192, 128256, **_TIED)
  ),
  "llama3_2_3b_instruct": Known(
    _LLAMA3_LANGUAGES, "Llama 3.2 Community", _shape("llama", 28, 3072, 24, 8, 8192, 128256, **_TIED)
  ),
  "llama3_1_8b_instruct": Known(
    _LLAMA3_LANGUAGES, "Llama 3.1 Community", _shape("llama", 32, 4096, 32, 8, 14336, 128256)
  ),
  "llama2_7b_chat": Known(_ENGLISH, _LLAMA2, _shape("llama", 32, 4096, 32, 32, 11008, 32000)),
  "vicuna_7b": Known(_ENGLISH, _LLAMA2, _shape("llama", 32, 4096, 32, 32, 11008, 32000)),
  "vicuna_13b": Known(_ENGLISH, _LLAMA2, _shape("llama", 40, 5120, 40, 40, 13824, 32000)),
  "mistral_7b_instruct": Known(
    _ENGLISH, _APACHE, _shape("mistral", 32, 4096, 32, 8, 14336, 32768, sliding_window=None)
  ),
}


def shape_of(name: str) -> DecoderConfig:
  return decoder_config(MODELS[name].config, name, "bfloat16")


@functools.cache
def parameters(config: DecoderConfig) -> int:
  return count(registry.parameter_shapes(config))


def rows_that_fit(config: DecoderConfig, size: int) -> int:
  """An estimate of how many rows of `LENGTH` tokens a LoRA update in bf16 holds at a time within `MEMORY`.

  2 · parameters
    + rows · (LENGTH · layers · (2 · (8 D + 2 (H + 2 K) · head_dim + 4 F) + 2 · H · LENGTH) + 8 · TARGETS · V):
  weights; what a layer keeps of each token for the gradient (hidden states, projections, FFN, and half a row of f32
  attention weights a head); logits and their gradient. A larger batch is accumulated.
  """
  c = config
  kept = 2 * (8 * c.width + 2 * (c.heads + 2 * c.kv_heads) * c.head_dim + 4 * c.ffn_width) + 2 * c.heads * LENGTH
  row = LENGTH * c.layers * kept + 8 * TARGETS * c.vocab_size
  return max(0, int((MEMORY - RESERVE - 2 * size) // row))


def table() -> str:
  """The README's table, in Markdown."""
  lines = ["| `--model` | parameters | languages | licence | rows in 24 GB |", "| --- | ---: | --- | --- | ---: |"]
  for name, known in MODELS.items():
    config = shape_of(name)
    size = parameters(config)
    shown = f"{size / 1e9:.2f} B" if size >= 1e9 else f"{size / 1e6:.0f} M"
    rows = rows_that_fit(config, size)
    lines.append(f"| {name} | {shown} | {known.languages} | {known.licence} | {rows or 'none'} |")
  return "\n".join(lines)


if __name__ == "__main__":
  print(table())
