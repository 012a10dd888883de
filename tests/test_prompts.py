"""Templates: reading, filling, and the instruction's forms with and without reasoning."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fiat_jax import prompts
from fiat_jax.errors import UserError
from fiat_jax.prompts import Field

VALUES = {"x": "X", "reasoning": "R"}


def tuned(instruction: str, instructed: bool, reasoned: bool) -> str:
  template = prompts.tuned_prompt(instruction, use_instruction=instructed, use_reasoning=reasoned)
  return prompts.fill(template, VALUES)


def test_a_template_is_text_and_fields():
  template = prompts.parse("a {b}{c d} {{e}}")
  assert prompts.fields(template) == ["b", "c d"]
  assert template[:3] == ("a ", Field("b"), Field("c d"))
  assert prompts.fill(template, {"b": "1", "c d": "2"}) == "a 12 {e}"


@pytest.mark.parametrize("text", ["{", "a } b", "{}", "{a!r}", "{a:>3}", "{a:{b}}"])
def test_what_is_no_template_says_that_braces_are_doubled(text: str):
  with pytest.raises(UserError, match=r"cannot be read: .*; a brace that is meant as text is doubled"):
    prompts.parse(text)


def test_an_unknown_field_suggests_the_nearest():
  with pytest.raises(UserError, match=r"names \{pasage\}: unknown; did you mean passage\?"):
    prompts.parse("{pasage}", ["question", "passage"])
  with pytest.raises(UserError, match=r"names \{zzz\}: unknown; there is passage, question"):
    prompts.parse("{zzz}", ["question", "passage"])
  with pytest.raises(UserError, match="there is nothing"):
    prompts.parse("{zzz}", [])


@given(value=st.text(), before=st.text(), after=st.text())
def test_values_stand_in_the_prompt_as_they_are(value: str, before: str, after: str):
  double = lambda text: text.replace("{", "{{").replace("}", "}}")  # noqa: E731
  template = prompts.parse(f"{double(before)}{{x}}{double(after)}")
  assert prompts.fill(template, {"x": value}) == before + value + after


FORMS = [
  # instruction, with the instruction and without reasoning, with both, with reasoning alone
  ("Do.\n\n{x}", "Do.\n\nX", "Do.\n\nX\n\nReasoning: R", "X\n\nReasoning: R"),
  ("{x}\nHint: {reasoning}\nGo.", "X\nGo.", "X\nHint: R\nGo.", "X\n\nReasoning: R"),
  ("{reasoning}\n{x}", "X", "R\nX", "X\n\nReasoning: R"),
  ("{x}\n\n{reasoning}", "X", "X\n\nR", "X\n\nReasoning: R"),
  ("{reasoning}\n\n{x}", "X", "R\n\nX", "X\n\nReasoning: R"),
  ("{x}\n\n{reasoning}\n\nGo.", "X\n\nGo.", "X\n\nR\n\nGo.", "X\n\nReasoning: R"),
  ("{x}\n{reasoning}\n\nGo.", "X\n\nGo.", "X\nR\n\nGo.", "X\n\nReasoning: R"),
  ("{x} {{reasoning}}", "X {reasoning}", "X {reasoning}\n\nReasoning: R", "X\n\nReasoning: R"),
]


@pytest.mark.parametrize("instruction, instructed, both, reasoned", FORMS)
def test_where_the_reasoning_stands_and_what_leaves_with_it(
  instruction: str, instructed: str, both: str, reasoned: str
):
  assert tuned(instruction, True, False) == instructed
  assert tuned(instruction, True, True) == both
  assert tuned(instruction, False, True) == reasoned
  assert tuned(instruction, False, False) == "X"


@pytest.mark.parametrize("instructed", [True, False])
@pytest.mark.parametrize("reasoned", [True, False])
def test_a_faulty_instruction_is_refused_in_every_form(instructed: bool, reasoned: bool):
  with pytest.raises(UserError, match=r"does not hold \{x\}"):
    tuned("Answer. {{x}}", instructed, reasoned)
  with pytest.raises(UserError, match=r"names \{question\}: unknown"):
    tuned("{x} {question}", instructed, reasoned)


def test_the_input_never_leaves_with_the_reasoning():
  assert tuned("{x} ({reasoning})", True, True) == "X (R)"
  with pytest.raises(UserError, match=r"give \{reasoning\} a line of its own"):
    tuned("{x} ({reasoning})", True, False)
