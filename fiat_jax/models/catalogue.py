"""What is known of the models under `gin/models/`, and the README's table of them.

`python -m fiat_jax.models.catalogue` prints the table. Shapes are those of the published configurations; parameters are
counted from the module that they give.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

from fiat_jax.models.family import Family, family_of, module_for
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


def _t5(kind: str, size: str, vocabulary: int) -> dict[str, Any]:
  width, heads, layers, ffn = T5_SIZES[size]
  return {
    "model_type": kind,
    "d_model": width,
    "num_heads": heads,
    "d_kv": 64,
    "num_layers": layers,
    "d_ff": ffn,
    "vocab_size": vocabulary,
    "feed_forward_proj": "gated-gelu",
    "tie_word_embeddings": False,
  }


def _t5_1_0(size: str) -> dict[str, Any]:
  width, heads, head_dim, layers, ffn = T5_1_0_SIZES[size]
  shape = {"d_model": width, "num_heads": heads, "d_kv": head_dim, "num_layers": layers, "d_ff": ffn}
  return _t5("t5", "small", 32128) | shape | {"feed_forward_proj": "relu", "tie_word_embeddings": True}


def _byt5(size: str) -> dict[str, Any]:
  width, heads, encoder, decoder, ffn = BYT5_SIZES[size]
  shape = {"d_model": width, "num_heads": heads, "num_layers": encoder, "num_decoder_layers": decoder, "d_ff": ffn}
  return _t5("t5", "small", 384) | shape


T5_1_0_SIZES = {  # Raffel et al., 2020, §3.7: width, heads, their size, layers of each stack, FFN
  "small": (512, 8, 64, 6, 2048),
  "base": (768, 12, 64, 12, 3072),
  "large": (1024, 16, 64, 24, 4096),
  "3b": (1024, 32, 128, 24, 16384),
  "11b": (1024, 128, 128, 24, 65536),
}
T5_SIZES = {  # width, heads, layers of each stack, FFN
  "small": (512, 6, 8, 1024),
  "base": (768, 12, 12, 2048),
  "large": (1024, 16, 24, 2816),
  "xl": (2048, 32, 24, 5120),
  "xxl": (4096, 64, 24, 10240),
}
BYT5_SIZES = {  # Xue et al., 2022, table 1: width, heads, layers of the encoder and of the decoder, FFN
  "small": (1472, 6, 12, 4, 3584),
  "base": (1536, 12, 18, 6, 3968),
  "large": (1536, 16, 36, 12, 3840),
  "xl": (2560, 32, 36, 12, 6720),
  "xxl": (4672, 64, 36, 12, 12352),
}
T5_KINDS = {  # languages, architecture, vocabulary
  "flan_t5": ("4: de, en, fr, ro", "t5", 32128),
  "t5_1_1": (_ENGLISH, "t5", 32128),
  "mt0": ("101", "mt5", 250112),
  "mt5": ("101", "mt5", 250112),
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
  "llama3_1_70b_instruct": Known(
    _LLAMA3_LANGUAGES, "Llama 3.1 Community", _shape("llama", 80, 8192, 64, 8, 28672, 128256)
  ),
  "llama2_7b_chat": Known(_ENGLISH, _LLAMA2, _shape("llama", 32, 4096, 32, 32, 11008, 32000)),
  "vicuna_7b": Known(_ENGLISH, _LLAMA2, _shape("llama", 32, 4096, 32, 32, 11008, 32000)),
  "vicuna_13b": Known(_ENGLISH, _LLAMA2, _shape("llama", 40, 5120, 40, 40, 13824, 32000)),
  "mistral_7b_instruct": Known(
    _ENGLISH, _APACHE, _shape("mistral", 32, 4096, 32, 8, 14336, 32768, sliding_window=None)
  ),
} | {
  f"{name}_{size}": Known(languages, _APACHE, _t5(kind, size, vocabulary))
  for name, (languages, kind, vocabulary) in T5_KINDS.items()
  for size in T5_SIZES
}
MODELS |= {f"t5_{size}": Known("4: de, en, fr, ro", _APACHE, _t5_1_0(size)) for size in T5_1_0_SIZES}
MODELS |= {f"byt5_{size}": Known("101", _APACHE, _byt5(size)) for size in BYT5_SIZES}


def family(name: str) -> Family:
  return family_of(module_for(MODELS[name].config, name, "bfloat16"))


@functools.cache
def parameters(name: str) -> int:
  return count(family(name).shapes())


def rows_that_fit(name: str) -> int:
  """An estimate of how many rows of `LENGTH` tokens a LoRA update in bf16 holds at a time within `MEMORY`.

  The weights at two bytes each, and for every row what the gradient needs of it (`Family.bytes_a_row`). A larger batch
  is accumulated. None where validation has no room, which decodes with the layers one by one, a copy of them.
  """
  weights, room = 2 * parameters(name), MEMORY - RESERVE
  return 0 if 2 * weights > room else int((room - weights) // family(name).bytes_a_row(LENGTH, TARGETS))


def shown(size: int) -> str:
  """A number of parameters as tables have it."""
  return f"{size / 1e9:.2f} B" if size >= 1e9 else f"{size / 1e6:.0f} M"


def table() -> str:
  """The README's table, in Markdown."""
  lines = ["| `--model` | parameters | languages | licence | rows in 24 GB |", "| --- | ---: | --- | --- | ---: |"]
  for name, known in MODELS.items():
    size = parameters(name)
    rows = rows_that_fit(name)
    lines.append(f"| {name} | {shown(size)} | {known.languages} | {known.licence} | {rows or 'none'} |")
  return "\n".join(lines)


if __name__ == "__main__":
  print(table())
