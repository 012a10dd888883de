"""The tokenizer that a GGUF file carries in its metadata, rebuilt as a transformers tokenizer without torch.

How rows and prompts are encoded with it is in `tokenizer.py`.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

from fiat_jax.checkpoints.gguf_header import read_header
from fiat_jax.errors import UserError

_CONTROL, _USER_DEFINED = 3, 4  # values of tokenizer.ggml.token_type

# Contractions, words with one mark before them, digits, marks with line ends, line ends, and white space that leaves
# one blank to the next word: Llama 3 takes up to three digits at a time, Qwen2 one.
_SPLIT = (
  r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|{digits}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|\s*[\r\n]+"
  r"|\s+(?!\S)|\s+"
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Kind:
  """What a value of `tokenizer.ggml.pre` stands for.

  Attributes:
    split: the pre-tokenizer that runs before bytes are spelled; None for single digits and GPT-2's words.
    ignore_merges: whether a word that is in the vocabulary is taken whole, whatever the merges say.
    normalize: whether text is brought to Unicode's composed form.
    add_bos: whether a text begins with BOS where the metadata do not say.
  """

  split: str | None = None
  ignore_merges: bool = False
  normalize: bool = False
  add_bos: bool = False


KINDS = {
  "smollm": _Kind(),
  "llama-bpe": _Kind(split=_SPLIT.format(digits=r"\p{N}{1,3}"), ignore_merges=True, add_bos=True),
  "qwen2": _Kind(split=_SPLIT.format(digits=r"\p{N}"), normalize=True),
}


def load_gguf_tokenizer(path: Path) -> tuple[Any, list[int]]:
  """Builds the tokenizer of a GGUF file.

  Returns:
    A transformers `PreTrainedTokenizerFast` with the file's chat template, and the ids that the metadata name as
    ends of a turn or text.

  Raises:
    UserError: the file is damaged, has no tokenizer, or one that is not byte-level BPE of a known kind.
  """
  from transformers import PreTrainedTokenizerFast

  metadata = read_header(path).metadata
  settings = {key.removeprefix("tokenizer.ggml."): value for key, value in metadata.items()}
  backend, kind = _byte_level_bpe(settings, path)
  tokens = settings["tokens"]
  named = {"bos_token": "bos", "eos_token": "eos", "pad_token": "padding", "unk_token": "unknown"}
  ids = {name: settings.get(f"{stored}_token_id") for name, stored in named.items()}
  wrapped = PreTrainedTokenizerFast(
    tokenizer_object=backend,
    add_bos_token=bool(settings.get("add_bos_token", kind.add_bos)),
    chat_template=metadata.get("tokenizer.chat_template"),
    clean_up_tokenization_spaces=False,
    **{name: tokens[token] for name, token in ids.items() if token is not None},
  )
  ends = (settings.get(f"{name}_token_id") for name in ("eos", "eot", "eom"))
  return wrapped, [token for token in ends if token is not None]


def _byte_level_bpe(settings: dict[str, Any], path: Path) -> tuple[Tokenizer, _Kind]:
  if (model := settings.get("model")) != "gpt2":
    raise UserError(f"GGUF tokenizer {model!r} is not supported: use the model's Hugging Face folder", path=path)
  if (name := settings.get("pre")) not in KINDS:
    known = ", ".join(KINDS)
    raise UserError(
      f"GGUF pre-tokenizer {name!r} is not supported (known: {known}): use the model's Hugging Face folder", path=path
    )
  kind = KINDS[name]
  tokens, merges = settings.get("tokens", []), [tuple(merge.split(" ")) for merge in settings.get("merges", [])]
  try:
    vocabulary = {token: index for index, token in enumerate(tokens)}
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=merges, ignore_merges=kind.ignore_merges))
  except Exception as error:  # `tokenizers` raises no narrower class
    raise UserError(f"the GGUF vocabulary is damaged ({error}): fetch the file again", path=path) from error
  backend.pre_tokenizer = _pre_tokenizer(kind)
  backend.decoder = decoders.ByteLevel()
  if kind.normalize:
    backend.normalizer = normalizers.NFC()
  marked = list(zip(tokens, settings.get("token_type", []), strict=False))
  backend.add_special_tokens([_added(token, special=True) for token, sort in marked if sort == _CONTROL])
  backend.add_tokens([_added(token, special=False) for token, sort in marked if sort == _USER_DEFINED])
  return backend, kind


def _pre_tokenizer(kind: _Kind) -> pre_tokenizers.PreTokenizer:
  if kind.split is None:
    steps = [
      pre_tokenizers.Digits(individual_digits=True),
      pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
    ]
  else:
    steps = [
      pre_tokenizers.Split(Regex(kind.split), behavior="isolated"),
      pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ]
  return pre_tokenizers.Sequence(steps)


def _added(token: str, special: bool) -> AddedToken:
  return AddedToken(token, special=special, normalized=False)
