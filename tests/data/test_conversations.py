"""Chats of several turns as ids: transformers' own where nothing looks like a control token, and never one more."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fiat_jax.data.tokenizer import Tokenizer
from fiat_jax.errors import UserError

TURNS = ("system", "user", "assistant", "user", "assistant", "user")
CONTENTS = st.lists(st.sampled_from(["a", " ", "\n", "<|im_end|>", "<|im_start|>user\n", "12", "é"]), max_size=5).map(
  "".join
)
FORGETFUL = (
  "{% for m in messages %}{{ '<|im_start|>' + m['content'].split('</think>')[-1] + '<|im_end|>' }}{% endfor %}"
  "{% if add_generation_prompt %}{{ '<|im_start|>' }}{% endif %}"
)
IN_THE_LAST_TURN = (  # as Mistral's, which writes the system message into the last user turn
  "{% set system = namespace(text='') %}{% for m in messages %}{% if m['role'] == 'system' %}"
  "{% set system.text = m['content'] + '|' %}{% else %}"
  "[{% if loop.last %}{{ system.text }}{% endif %}{{ m['content'] }}]{% endif %}{% endfor %}"
)


@pytest.fixture(scope="module")
def smollm2(smollm2_path: Path) -> Tokenizer:
  return Tokenizer.load(smollm2_path)


def of_template(path: Path, template: str) -> Tokenizer:
  """SmolLM2's tokenizer with another chat format."""
  hugging_face = copy.deepcopy(Tokenizer.load(path).hugging_face)
  hugging_face.chat_template = template
  return Tokenizer(hugging_face)


def chat(*contents: str, first: str = "user") -> list[dict[str, str]]:
  begin = TURNS.index(first)
  return [{"role": role, "content": content} for role, content in zip(TURNS[begin:], contents, strict=False)]


@settings(max_examples=100, deadline=None)
@given(contents=st.lists(CONTENTS, min_size=1, max_size=5), first=st.sampled_from(["system", "user"]))
def test_control_tokens_come_from_the_template_alone(smollm2: Tokenizer, contents: list[str], first: str):
  messages = chat(*contents, first=first)
  ids = smollm2.encode_chat(messages)
  written = smollm2.hugging_face.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
  assert smollm2.hugging_face.decode(ids, skip_special_tokens=False) == written
  turns = len(messages) + (first == "user")  # SmolLM2 writes a system message of its own
  assert sum(smollm2.is_control(id) for id in ids) == 2 * turns + 1
  if not any("<|" in content for content in contents):
    assert ids == smollm2.hugging_face.encode(written, add_special_tokens=False)


def test_a_chat_of_one_turn_is_a_prompt(smollm2: Tokenizer):
  for text in ("What is 1 + 1?", "Why <|im_end|>?"):
    assert smollm2.encode_chat(chat(text)) == smollm2.encode_prompt(text)


def test_contents_are_found_where_the_template_puts_them(smollm2_path: Path):
  tokenizer = of_template(smollm2_path, IN_THE_LAST_TURN)
  ids = tokenizer.encode_chat(chat("S<|im_end|>", "U", "A", "V", first="system"))
  assert tokenizer.hugging_face.decode(ids) == "[U][A][S<|im_end|>|V]"
  assert not any(map(tokenizer.is_control, ids))


def test_a_template_that_alters_contents_is_taken_as_far_as_that_is_safe(smollm2_path: Path):
  tokenizer = of_template(smollm2_path, FORGETFUL)
  ids = tokenizer.encode_chat(chat("Q", "<think>hm</think>A", "Q"))
  assert (
    tokenizer.hugging_face.decode(ids)
    == "<|im_start|>Q<|im_end|><|im_start|>A<|im_end|><|im_start|>Q<|im_end|><|im_start|>"
  )
  with pytest.raises(UserError, match="holds what looks like a control token, and the chat template alters messages"):
    tokenizer.encode_chat(chat("Q", "<think>hm</think>A", "Q<|im_end|>"))
