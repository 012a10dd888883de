"""Text to token ids and back, and one user turn in the model's chat format. Neither TensorFlow nor torch.

A row's text never becomes a control token; those come from the chat template alone. SeqIO's view of this is in
`vocabularies.py`.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import tokenizers

from fiat_jax.data.chat import ChatTemplate
from fiat_jax.data.marked_text import MarkedText, backend, ids
from fiat_jax.data.tokenizer_folder import is_t5, load_folder, of_encoder
from fiat_jax.errors import UserError


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
    marks, end = _turn_marks(backend(description), self._chat)
    for token in description["added_tokens"]:  # some checkpoints save their turn marks as ordinary text
      token["special"] = token["special"] or token["id"] in marks
    self._control = {token["id"]: token["content"] for token in description["added_tokens"] if token["special"]}
    self._text = MarkedText(description, self._control)
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

    While the files are as they were, the one that was loaded before is given again.

    Raises UserError where there is none.
    """
    place = Path(path).expanduser()
    if not place.exists():
      raise UserError("no such file or folder: give a .gguf file or a Hugging Face folder", path=place)
    files = sorted(place.iterdir()) if place.is_dir() else [place]
    found = [file.stat() for file in files if file.exists()]  # a link may lead nowhere
    return _loaded(place, plain, tuple((state.st_ino, state.st_size, state.st_mtime_ns) for state in found))

  def encode(self, text: str) -> list[int]:
    """Encodes a row's text: no BOS, no EOS, and what looks like a control token becomes ordinary pieces."""
    return self._text.plain.encode(text, add_special_tokens=False).ids

  def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
    """Encodes each text as `encode` does, in parallel."""
    return [encoding.ids for encoding in self._text.plain.encode_batch_fast(list(texts), add_special_tokens=False)]

  def token(self, id: int) -> str:
    """How a control token is written."""
    return self._control.get(id) or str(self.hugging_face.convert_ids_to_tokens(id))

  def is_control(self, id: int) -> bool:
    """Whether an id is a control token's, which `decode` leaves out."""
    return id in self._control

  def decode(self, ids: Iterable[int]) -> str:
    """Decodes ids, leaving out control tokens."""
    return self._text.marked.decode([int(id) for id in ids], skip_special_tokens=True)

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
      return self.encode_plain(text)
    rendered = self.prompt_string(text, system)
    return self._text.encode(rendered, self.chat_parts(system), lambda: [self._chat.around(rendered, system)[1]])

  def encode_plain(self, text: str) -> list[int]:
    """Encodes a text that is no turn of a chat: after BOS, and, for an encoder, before the end mark."""
    return self._prefix + self.encode(text) + self._suffix

  def encode_chat(self, messages: Sequence[Mapping[str, str]]) -> list[int]:
    """Encodes a chat, each message with its `role` and `content`, and the generation prompt.

    Control tokens are taken only from what the template wrote. Raises UserError where there is no chat template or it
    refuses the messages.
    """
    if not self._chat:
      raise UserError("the model has no chat template", path=self.path)
    return self._text.encode(*self._chat.conversation(messages))

  def encode_dialogue(self, messages: Sequence[Mapping[str, str]]) -> list[tuple[list[int], list[int]]]:
    """Encodes a chat that ends with an assistant's turn: what stands before each of these, and the turn itself.

    One after the other they are the chat; a turn closes with the end mark.

    Raises:
      UserError: there is no chat template, or it refuses the messages or does not end an assistant's turn with a mark.
    """
    if not self._chat or not self.ends_turns or self.end_id is None:
      raise UserError("the model has no chat template that ends an assistant's turn with a mark", path=self.path)
    pieces, contents, roles = self._chat.around_turns(messages[:-1])
    answers = [content for content, role in zip(contents, roles, strict=True) if role == "assistant"]
    runs: list[tuple[list[str], list[str]]] = [([pieces[0]], [])]
    for content, role, piece in zip(contents, roles, pieces[1:], strict=True):
      if role == "assistant":
        runs.append(([piece.lstrip()], []))
      else:
        runs[-1][0].append(piece)
        runs[-1][1].append(content)
    answers.append(messages[-1]["content"])
    before = [self._encode_run(number, *run) for number, run in enumerate(runs)]
    return list(zip(before, ([*self.encode(answer), self.end_id] for answer in answers), strict=True))

  def _encode_run(self, number: int, pieces: Sequence[str], contents: Sequence[str]) -> list[int]:
    """What stands before an assistant's turn; but the first begins with the end mark of the turn before."""
    rendered = "".join(itertools.chain.from_iterable(itertools.zip_longest(pieces, contents, fillvalue="")))
    ids = self._text.encode(rendered, tuple(pieces), lambda: contents)
    if number and ids[:1] != [self.end_id]:
      raise UserError("the chat template ends an earlier turn of the assistant otherwise than the last", path=self.path)
    return ids[1:] if number else ids

  def encode_prompts(self, texts: Sequence[str]) -> list[list[int]]:
    """Encodes each text as `encode_prompt` does, in parallel."""
    if not self._chat:
      return [self._prefix + found + self._suffix for found in self.encode_batch(texts)]
    rendered = [self.prompt_string(text) for text in texts]
    encodings = self._text.marked.encode_batch_fast(rendered, add_special_tokens=False)
    control, count = self._control.keys(), self._text.count(self.chat_parts())
    # As many control ids as marks of the template: those are they. An unknown character may have such an id, too.
    return [
      encoding.ids if sum(id in control for id in encoding.ids) == count else self.encode_prompt(text)
      for encoding, text in zip(encodings, texts, strict=True)
    ]


@functools.lru_cache(maxsize=4)  # a large vocabulary takes seconds, and a command asks more than once
def _loaded(place: Path, plain: bool, _state: tuple[tuple[int, ...], ...]) -> Tokenizer:
  os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")  # that torch is missing is no news
  if place.is_dir():
    (hugging_face, end_ids), for_encoder = load_folder(place), of_encoder(place)
  else:
    from fiat_jax.data.gguf_tokenizer import load_gguf_tokenizer

    (hugging_face, end_ids), for_encoder = load_gguf_tokenizer(place), None
  if plain or for_encoder:
    hugging_face.chat_template = None
  return Tokenizer(hugging_face, end_ids, place, for_encoder=for_encoder)


def _turn_marks(marked: tokenizers.Tokenizer, chat: ChatTemplate) -> tuple[set[int], int | None]:
  """Returns the added tokens that frame turns, declared special or not, and the one that ends an assistant's turn."""
  if not chat:
    return set(), None
  around, after = chat.turn_frame()
  added = {id for id, token in marked.get_added_tokens_decoder().items() if token.content.strip()}
  end = next((id for id in ids(marked, after.lstrip())[:1] if id in added), None)
  marks = added.intersection(ids(marked, around))
  return marks if end is None else marks | {end}, end


def _prefix(hugging_face: Any) -> list[int]:
  """Returns what the tokenizer puts before a text (BOS, where it does), and not what it puts after it."""
  bare = hugging_face.encode("a", add_special_tokens=False)
  whole = hugging_face.encode("a", add_special_tokens=True)
  return whole[: next(i for i in range(len(whole)) if whole[i : i + len(bare)] == bare)]
