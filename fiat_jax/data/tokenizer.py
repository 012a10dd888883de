"""Text to token ids and back, and one user turn in the model's chat format. Neither TensorFlow nor torch.

A row's text never becomes a control token; those come from the chat template alone. SeqIO's view of this is in
`vocabularies.py`.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
from collections.abc import Container, Iterable, Sequence
from pathlib import Path
from typing import Any

import tokenizers

from fiat_jax.data.chat import SENTINEL, ChatTemplate
from fiat_jax.data.tokenizer_folder import is_t5, load_folder, of_encoder
from fiat_jax.errors import UserError

_MARK = "\ufdd0mark\ufdd1"  # Unicode's noncharacters stand in no text


class Tokenizer:
  """A checkpoint's tokenizer.

  A byte that the vocabulary lacks (SmolLM2: six control characters, unassigned planes) is left out, as by Hugging Face.

  Attributes:
    hugging_face: the transformers tokenizer behind it.
    bos_id, eos_id: the marks that begin and end a text, or None.
    pad_id: the padding id; the tokenizer's own, else `eos_id`, else 0. It may be a real token: use lengths.
    end_id: the mark that ends an assistant's turn: the chat template's, else `eos_id`.
    stop_ids: all ids at which an assistant's turn ends, sorted.
    vocab_size: the number of ids; a model's table may be longer.
    ends_turns: whether `end_id` is what the chat template writes after an assistant's turn.
    template_source: where the chat template comes from; empty where there is none.
    path: the file or folder it was loaded from, if any.
    fingerprint: 64 hexadecimal digits that change when any id or the chat format does.
    for_encoder: whether prompts are what an encoder reads: plain text and the end mark.
  """

  def __init__(
    self, hugging_face: Any, end_ids: Iterable[int] = (), path: Path | None = None, *, for_encoder: bool | None = None
  ):
    """Wraps a fast transformers tokenizer; `end_ids` are further ends of a turn, `path` is for error messages.

    Where `for_encoder` is not given, it is known of T5's own class alone.
    """
    self.hugging_face = hugging_face
    self.bos_id: int | None = hugging_face.bos_token_id
    self.eos_id: int | None = hugging_face.eos_token_id
    self.pad_id: int = next((id for id in (hugging_face.pad_token_id, self.eos_id) if id is not None), 0)
    self.vocab_size = len(hugging_face)
    self._chat, self.path = ChatTemplate(hugging_face, path), path
    self.template_source = self._chat.source
    self.for_encoder = is_t5(hugging_face) if for_encoder is None else for_encoder
    self._prefix = _prefix(hugging_face)
    self._suffix = [self.eos_id] if self.for_encoder and self.eos_id is not None else []
    description = json.loads(hugging_face.backend_tokenizer.to_str())
    marks, end = _turn_marks(_backend(description), self._chat)
    for token in description["added_tokens"]:  # some checkpoints save their turn marks as ordinary text
      token["special"] = token["special"] or token["id"] in marks
    self._control = {token["id"]: token["content"] for token in description["added_tokens"] if token["special"]}
    self._marked, self._plain = _backend(description), _plain_backend(description, self._control)
    self._mark_count = functools.lru_cache(maxsize=16)(self._count_marks)
    self.end_id, self.ends_turns = self.eos_id if end is None else end, end is not None
    self.stop_ids = tuple(sorted({id for id in (*end_ids, self.end_id, self.eos_id) if id is not None}))
    parts = [
      description,
      hugging_face.chat_template,
      self.chat_parts(),
      self._prefix,
      self.stop_ids,
      self.pad_id,
      *self._suffix,
    ]
    self.fingerprint = hashlib.sha256(json.dumps(parts).encode()).hexdigest()

  @classmethod
  def load(cls, path: str | os.PathLike[str], *, plain: bool = False) -> Tokenizer:
    """Loads the tokenizer of a GGUF file or a Hugging Face folder; `plain`, without its chat template.

    Raises UserError where there is none.
    """
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")  # that torch is missing is no news
    place = Path(path).expanduser()
    if place.is_dir():
      return cls._made(*load_folder(place), place, plain, of_encoder(place))
    if not place.exists():
      raise UserError("no such file or folder: give a .gguf file or a Hugging Face folder", path=place)
    from fiat_jax.data.gguf_tokenizer import load_gguf_tokenizer

    return cls._made(*load_gguf_tokenizer(place), place, plain)

  @classmethod
  def _made(
    cls, hugging_face: Any, end_ids: list[int], path: Path, plain: bool, for_encoder: bool | None = None
  ) -> Tokenizer:
    if plain or for_encoder:
      hugging_face.chat_template = None
    return cls(hugging_face, end_ids, path, for_encoder=for_encoder)

  def encode(self, text: str) -> list[int]:
    """Encodes a row's text: no BOS, no EOS, and what looks like a control token becomes ordinary pieces."""
    return self._plain.encode(text, add_special_tokens=False).ids

  def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
    """Encodes each text as `encode` does, in parallel."""
    return [encoding.ids for encoding in self._plain.encode_batch_fast(list(texts), add_special_tokens=False)]

  def token(self, id: int) -> str:
    """How a control token is written."""
    return self._control.get(id) or str(self.hugging_face.convert_ids_to_tokens(id))

  def decode(self, ids: Iterable[int]) -> str:
    """Decodes ids, leaving out control tokens."""
    return self._marked.decode([int(id) for id in ids], skip_special_tokens=True)

  def chat_parts(self, system: str | None = None) -> tuple[str, str]:
    """Returns what the chat template writes before and after one user turn's content, generation prompt included.

    Both are empty without a chat template. Raises UserError where the template refuses the system message.
    """
    return self._chat.parts(system) if self._chat else ("", "")

  def marks_around(self) -> tuple[list[int], list[int]]:
    """Returns the ids that stand before and after a prompt which is no turn of a chat."""
    return ([], []) if self._chat else (self._prefix, self._suffix)

  def prompt_string(self, text: str, system: str | None = None) -> str:
    """Returns the string that the model is prompted with: one user turn and the generation prompt."""
    return self._chat.prompt(text, system) if self._chat else text

  def encode_prompt(self, text: str, system: str | None = None) -> list[int]:
    """Encodes one user turn and the generation prompt, or the text after BOS where there is no chat template.

    An encoder reads the end mark behind the text.

    The ids are those that Hugging Face gives for `prompt_string(text)`, but that control tokens are taken only from
    what the template wrote. Raises UserError where the template refuses the messages.
    """
    if not self._chat:
      return self._prefix + self.encode(text) + self._suffix
    rendered = self.prompt_string(text, system)
    encoding = self._marked.encode(rendered, add_special_tokens=False)
    if len(self._mark_spans(encoding, rendered)) == self._mark_count(system):
      return encoding.ids
    return self._spelt_out(rendered, system)

  def encode_prompts(self, texts: Sequence[str]) -> list[list[int]]:
    """Encodes each text as `encode_prompt` does, in parallel."""
    if not self._chat:
      return [self._prefix + ids + self._suffix for ids in self.encode_batch(texts)]
    rendered = [self.prompt_string(text) for text in texts]
    encodings = self._marked.encode_batch_fast(rendered, add_special_tokens=False)
    control, count = self._control.keys(), self._mark_count(None)
    # As many control ids as marks of the template: those are they. An unknown character may have such an id, too.
    return [
      encoding.ids if sum(id in control for id in encoding.ids) == count else self.encode_prompt(text)
      for encoding, text in zip(encodings, texts, strict=True)
    ]

  def _spelt_out(self, rendered: str, system: str | None) -> list[int]:
    # The content holds what looks like a control token: spell out it and the plain text that runs into it.
    before, content, after = self._chat.around(rendered, system)
    (start, _), (_, end) = self._plain_edges(before), self._plain_edges(after)
    run = before[start:] + content + after[:end]
    plain = self._encode_after_mark(run) if start else self.encode(run)
    return _ids(self._marked, before[:start]) + plain + _ids(self._marked, after[end:])

  def _encode_after_mark(self, text: str) -> list[int]:
    """Encodes as `encode` does, but for the blank that some tokenizers put before what begins a whole text."""
    return _ids(self._after_mark, _MARK + text)[1:]

  @functools.cached_property
  def _after_mark(self) -> tokenizers.Tokenizer:
    backend = _plain_backend(json.loads(self._marked.to_str()), self._control)
    backend.add_tokens([tokenizers.AddedToken(_MARK, special=False, normalized=False)])
    return backend

  def _plain_edges(self, part: str) -> tuple[int, int]:
    """Returns where the last control token of `part` ends (or 0) and where its first one begins (or its length)."""
    spans = self._mark_spans(self._marked.encode(part, add_special_tokens=False), part)
    return (spans[-1][1], spans[0][0]) if spans else (0, len(part))

  def _mark_spans(self, encoding: tokenizers.Encoding, text: str) -> list[tuple[int, int]]:
    found = [(id, span) for id, span in zip(encoding.ids, encoding.offsets, strict=True) if id in self._control]
    # An unknown character has the id of the unknown token, which may well be a control token.
    return [(start, end) for id, (start, end) in found if text[start:end].strip() == self._control[id].strip()]

  def _count_marks(self, system: str | None) -> int:
    text = SENTINEL.join(self.chat_parts(system))
    return len(self._mark_spans(self._marked.encode(text, add_special_tokens=False), text))


def _ids(backend: tokenizers.Tokenizer, text: str) -> list[int]:
  return backend.encode(text, add_special_tokens=False).ids


def _backend(description: dict[str, Any]) -> tokenizers.Tokenizer:
  backend = tokenizers.Tokenizer.from_str(json.dumps(description))
  backend.no_truncation()  # a saved limit would cut text without a word
  backend.no_padding()
  return backend


def _plain_backend(description: dict[str, Any], control: Container[int]) -> tokenizers.Tokenizer:
  """Returns the tokenizer that spells out what looks like a control token."""
  model = description["model"]
  if model["type"] == "Unigram":  # it would find the control tokens among its pieces all the same
    renamed = [[_MARK + piece if id in control else piece, score] for id, (piece, score) in enumerate(model["vocab"])]
    kept = [token for token in description["added_tokens"] if token["id"] not in control]
    description = description | {"model": model | {"vocab": renamed}, "added_tokens": kept, "post_processor": None}
  backend = _backend(description)
  backend.encode_special_tokens = True
  return backend


def _turn_marks(backend: tokenizers.Tokenizer, chat: ChatTemplate) -> tuple[set[int], int | None]:
  """Returns the added tokens that frame turns, declared special or not, and the one that ends an assistant's turn."""
  if not chat:
    return set(), None
  around, after = chat.turn_frame()
  added = {id for id, token in backend.get_added_tokens_decoder().items() if token.content.strip()}
  end = next((id for id in _ids(backend, after.lstrip())[:1] if id in added), None)
  marks = added.intersection(_ids(backend, around))
  return marks if end is None else marks | {end}, end


def _prefix(hugging_face: Any) -> list[int]:
  """Returns what the tokenizer puts before a text (BOS, where it does), and not what it puts after it."""
  bare = hugging_face.encode("a", add_special_tokens=False)
  whole = hugging_face.encode("a", add_special_tokens=True)
  return whole[: next(i for i in range(len(whole)) if whole[i : i + len(bare)] == bare)]
