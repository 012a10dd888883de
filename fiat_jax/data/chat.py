"""A checkpoint's chat template: the strings it writes around one turn. Token ids are made in `tokenizer.py`."""

from __future__ import annotations

import functools
import itertools
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from fiat_jax.errors import UserError

# Stands for a turn's content while a template is rendered; no template trims or alters it.
SENTINEL = "content-5f2c61d09e"
# Some templates write today's date: prompts, and caches of them, must not change overnight.
_DATE = "26 Jul 2024"


class ChatTemplate:
  """The chat template of a transformers tokenizer; false where it has none.

  Every method raises UserError where the template refuses the messages or does not write a content exactly once.
  """

  def __init__(self, hugging_face: Any, path: Path | None = None):
    self._hugging_face = hugging_face
    self._path = path
    self.parts = functools.lru_cache(maxsize=16)(self._parts)
    self._around_turns = functools.lru_cache(maxsize=256)(self._pieces)

  def __bool__(self) -> bool:
    return bool(self._hugging_face.chat_template)

  @property
  def source(self) -> str:
    """The place that the template was found in, in words; empty where there is none."""
    if not self or self._path is None:
      return "the tokenizer" if self else ""
    if self._path.is_file():
      return f"the metadata of {self._path}"
    files = ("chat_template.jinja", "chat_template.json")  # they come before the configuration's
    return str(self._path / next((file for file in files if (self._path / file).exists()), "tokenizer_config.json"))

  def prompt(self, text: str, system: str | None = None) -> str:
    """Renders one user turn and the generation prompt."""
    return self._render(_user_turn(text, system), add_generation_prompt=True)

  def _parts(self, system: str | None = None) -> tuple[str, str]:
    """Returns what stands before and after one user turn's content, generation prompt included."""
    return self._split(self.prompt(SENTINEL, system))

  def around(self, rendered: str, system: str | None = None) -> tuple[str, str, str]:
    """Splits a rendered prompt into what stands before its content, the content as it was written, and the rest."""
    before, after = self.parts(system)
    if not (rendered.startswith(before) and rendered.endswith(after)):
      raise UserError("the chat template depends on the content: such templates are not supported", path=self._path)
    return before, rendered[len(before) : len(rendered) - len(after)], after

  def conversation(self, messages: Sequence[Mapping[str, str]]) -> tuple[str, tuple[str, ...], Callable[[], list[str]]]:
    """Renders messages of `role` and `content` and the generation prompt.

    Returns it, what the template writes around the contents, and a function that gives these as they were written.
    """
    rendered = self._render([dict(message) for message in messages], add_generation_prompt=True)
    pieces, order = self._around_turns(tuple(message["role"] for message in messages))
    return rendered, pieces, lambda: self._written(rendered, pieces, [messages[n]["content"] for n in order])

  def around_turns(self, messages: Sequence[Mapping[str, str]]) -> tuple[Sequence[str], list[str], Sequence[str]]:
    """What the template writes around the contents of a conversation, these as it writes them, and whose each is."""
    _, pieces, written = self.conversation(messages)
    order = self._around_turns(tuple(message["role"] for message in messages))[1]
    return pieces, written(), [messages[n]["role"] for n in order]

  def _written(self, rendered: str, pieces: Sequence[str], contents: list[str]) -> list[str]:
    for written in (contents, [content.strip() for content in contents]):
      if rendered == _interleaved(pieces, written):
        return written
    message = "a message holds what looks like a control token, and the chat template alters messages: leave it out"
    raise UserError(message, path=self._path)

  def _pieces(self, roles: tuple[str, ...]) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """What stands around the contents of turns of these roles, and which content stands at each place."""
    turns = [{"role": role, "content": f"{SENTINEL}{n:04d}"} for n, role in enumerate(roles)]
    parts = re.split(rf"{SENTINEL}(\d{{4}})", self._render(turns, add_generation_prompt=True))
    order = tuple(map(int, parts[1::2]))
    if sorted(order) != list(range(len(roles))):
      raise UserError("the chat template does not write each content exactly once: not supported", path=self._path)
    return tuple(parts[::2]), order

  def turn_frame(self) -> tuple[str, str]:
    """Returns what stands around a user turn without generation prompt, and what follows an assistant's content."""
    around = "".join(self._split(self._render(_user_turn(SENTINEL, None))))
    dialogue = [*_user_turn("content", None), {"role": "assistant", "content": SENTINEL}]
    return around, self._split(self._render(dialogue))[1]

  def _split(self, rendered: str) -> tuple[str, str]:
    if rendered.count(SENTINEL) != 1:
      raise UserError("the chat template does not write a turn's content exactly once: not supported", path=self._path)
    before, _, after = rendered.partition(SENTINEL)
    return before, after

  def _render(self, messages: list[dict[str, str]], add_generation_prompt: bool = False) -> str:
    import jinja2

    try:
      return self._hugging_face.apply_chat_template(
        messages, tokenize=False, add_generation_prompt=add_generation_prompt, date_string=_DATE
      )
    except (jinja2.TemplateError, ValueError, TypeError) as error:
      raise UserError(f"the chat template fails: {error}", path=self._path) from error


def _interleaved(pieces: Sequence[str], contents: Sequence[str]) -> str:
  return "".join(itertools.chain.from_iterable(itertools.zip_longest(pieces, contents, fillvalue="")))


def _user_turn(text: str, system: str | None) -> list[dict[str, str]]:
  head = [] if system is None else [{"role": "system", "content": system}]
  return [*head, {"role": "user", "content": text}]
