"""Token ids of every family's kind of tokenizer, with its chat template, equal those of `tokenizers` itself."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from fiat_jax.data import tokenizer as ours

CORPUS = [
  "Answer the question from the passage. The river flows north into the sea.",
  "What is the capital of France? It is Paris, and 1234 people know it.",
  "भारत की राजधानी नई दिल्ली है। Größe, naïve café, señor. don't we'll I'm",
] * 3
TEXTS = (
  "What is the capital of France?",
  "  two leading,  three   inside, trailing ",
  "भारत — 2024, 🦊 and\ttabs\n\nlines\r\n",
  "don't stop: x1y22z333 naïve",
  "",
)
WORDS = (
  r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}%s| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


class Kind(NamedTuple):
  """A family's tokenizer: how it is built, its class on the Hub, its marks, template and what that gives."""

  build: Callable[[list[str]], Tokenizer]
  model_type: str
  tokenizer_class: str
  marks: list[str]
  settings: dict[str, str]
  template: str
  rendered: Callable[[str], str]


def byte_level(digits: str, normalize: bool = False) -> Callable[[list[str]], Tokenizer]:
  """BPE over bytes, as Llama 3 (up to three digits) and Qwen (one digit, composed characters)."""

  def build(marks: list[str]) -> Tokenizer:
    backend = Tokenizer(models.BPE())
    if normalize:
      backend.normalizer = normalizers.NFC()
    split = pre_tokenizers.Split(Regex(WORDS % digits), behavior="isolated")
    spelled = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.pre_tokenizer = pre_tokenizers.Sequence([split, spelled])
    backend.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    backend.train_from_iterator(CORPUS, trainers.BpeTrainer(vocab_size=400, initial_alphabet=alphabet))
    backend.add_special_tokens([AddedToken(mark, special=True, normalized=False) for mark in marks])
    return backend

  return build


def sentencepiece(prepend: bool) -> Callable[[list[str]], Tokenizer]:
  """BPE with spaces as ▁ and bytes for what it does not know; Llama 2 and Mistral put a ▁ first, Gemma does not."""

  def build(marks: list[str]) -> Tokenizer:
    spelled = [*marks, *(f"<0x{byte:02X}>" for byte in range(256))]
    spaces = normalizers.Replace(" ", "▁")
    normalizer = normalizers.Sequence([normalizers.Prepend("▁"), spaces]) if prepend else spaces
    trained = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    trained.normalizer = normalizer
    trained.pre_tokenizer = pre_tokenizers.Split("▁", behavior="merged_with_next")
    trained.train_from_iterator(CORPUS[:2], trainers.BpeTrainer(vocab_size=450, special_tokens=spelled))
    model = json.loads(trained.to_str())["model"]
    merges = [tuple(merge) if isinstance(merge, list) else tuple(merge.split(" ")) for merge in model["merges"]]
    bpe = models.BPE(vocab=model["vocab"], merges=merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True)
    backend = Tokenizer(bpe)
    backend.normalizer = normalizer
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    backend.decoder = decoders.Sequence([*steps, decoders.Strip(" ", 1, 0)] if prepend else steps)
    backend.add_special_tokens([AddedToken(mark, special=True, normalized=False) for mark in marks])
    return backend

  return build


def turns(before: str, after: str, end: str, bos: str = "") -> str:
  """A template of user and assistant turns that ends in what the assistant's begins with, `after`."""
  return (
    f"{bos}{{% for m in messages %}}{{% if m['role'] == 'assistant' %}}{{{{ '{after}' + m['content'] + '{end}' }}}}"
    f"{{% else %}}{{{{ '{before}' + m['content'] + '{end}' }}}}{{% endif %}}{{% endfor %}}"
    f"{{% if add_generation_prompt %}}{{{{ '{after}' }}}}{{% endif %}}"
  )


_HEADER = "<|start_header_id|>%s<|end_header_id|>\\n\\n"
_INST = (
  "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'user' %}{{ '[INST] ' + m['content'] + ' [/INST]' }}"
  "{% else %}{{ ' ' + m['content'] + eos_token }}{% endif %}{% endfor %}"
)
KINDS = {
  "llama3": Kind(
    byte_level("{1,3}"),
    "llama",
    "PreTrainedTokenizerFast",
    ["<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"],
    {"bos_token": "<|begin_of_text|>", "eos_token": "<|eot_id|>"},
    turns(_HEADER % "user", _HEADER % "assistant", "<|eot_id|>", "{{ bos_token }}"),
    lambda x: (
      f"<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\n{x}<|eot_id|>"
      "<|start_header_id|>assistant<|end_header_id|>\n\n"
    ),
  ),
  "qwen": Kind(
    byte_level("", normalize=True),
    "qwen2",
    "Qwen2Tokenizer",
    ["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
    {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"},
    turns("<|im_start|>user\\n", "<|im_start|>assistant\\n", "<|im_end|>\\n"),
    lambda x: f"<|im_start|>user\n{x}<|im_end|>\n<|im_start|>assistant\n",
  ),
  "llama2 and mistral": Kind(
    sentencepiece(prepend=True),
    "mistral",
    "LlamaTokenizer",
    ["<unk>", "<s>", "</s>"],
    {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"},
    _INST,
    lambda x: f"<s>[INST] {x} [/INST]",
  ),
  "gemma": Kind(
    sentencepiece(prepend=False),
    "gemma3_text",
    "GemmaTokenizer",
    ["<pad>", "<eos>", "<bos>", "<unk>", "<start_of_turn>", "<end_of_turn>"],
    {"bos_token": "<bos>", "eos_token": "<eos>", "unk_token": "<unk>", "pad_token": "<pad>"},
    turns("<start_of_turn>user\\n", "<start_of_turn>model\\n", "<end_of_turn>\\n", "{{ bos_token }}"),
    lambda x: f"<bos><start_of_turn>user\n{x}<end_of_turn>\n<start_of_turn>model\n",
  ),
}


@pytest.fixture(scope="module", params=KINDS)
def family(request, tmp_path_factory) -> tuple[Kind, Tokenizer, ours.Tokenizer]:
  """The kind, its backend, and the same loaded from a Hugging Face folder."""
  kind, folder = KINDS[request.param], tmp_path_factory.mktemp("tokenizer")
  backend = kind.build(kind.marks)
  return kind, backend, load(folder, kind, backend)


def load(folder: Path, kind: Kind, backend: Tokenizer) -> ours.Tokenizer:
  backend.save(str(folder / "tokenizer.json"))
  settings: dict[str, Any] = {"tokenizer_class": kind.tokenizer_class, "chat_template": kind.template, **kind.settings}
  (folder / "tokenizer_config.json").write_text(json.dumps(settings))
  (folder / "config.json").write_text(json.dumps({"model_type": kind.model_type}))
  return ours.Tokenizer.load(folder)


@pytest.mark.parametrize("text", TEXTS)
def test_a_text_has_the_backend_s_ids(family, text: str):
  _, backend, loaded = family
  assert loaded.encode(text) == backend.encode(text, add_special_tokens=False).ids


@pytest.mark.parametrize("text", TEXTS)
def test_a_prompt_has_the_ids_of_the_written_out_template(family, text: str):
  kind, backend, loaded = family
  assert loaded.prompt_string(text) == kind.rendered(text)
  assert loaded.encode_prompt(text) == backend.encode(kind.rendered(text), add_special_tokens=False).ids


def test_an_answer_ends_with_the_mark_of_the_template(family):
  kind, backend, loaded = family
  ends = {"<|eot_id|>", "<|im_end|>", "</s>", "<end_of_turn>"}
  assert backend.id_to_token(loaded.end_id) in ends.intersection(kind.marks)
  assert loaded.end_id in loaded.stop_ids
