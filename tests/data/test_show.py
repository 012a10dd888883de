"""A row as it is shown: strings, ids, marks, and what carries loss."""

from __future__ import annotations

from pathlib import Path

from test_tokenizer import CHATML, write_gguf

from fiat_jax import prompts
from fiat_jax.data import show
from fiat_jax.data.rows import Row
from fiat_jax.data.tokenizer import Tokenizer

ROW = Row(id="1", lang="und", group="1", x="hi", targets=("12", "3"), reasoning="ah", labels=(), line=1, fields={})
TEMPLATE = prompts.tuned_prompt("{x}", use_instruction=True, use_reasoning=True)


def test_marks_are_counted_and_loss_is_set_off(tmp_path: Path):
  tokenizer = Tokenizer.load(write_gguf(tmp_path / "m.gguf", "qwen2", CHATML))
  shown = show.example(tokenizer, TEMPLATE, ROW)
  told = show.lines(tokenizer, shown, show.brackets)
  assert told[1:3] == [
    "  begin marks: 2 (<|im_start|>)",
    "  end marks: 1 (<|im_end|>) in the prompt, 1 (<|im_end|>) with loss",
  ]
  assert told[4] == "<|im_start|>user\nhi\n\nReasoning: ah<|im_end|>\n<|im_start|>assistant\n⟦12<|im_end|>⟧"
  assert told[-1] == f"⟦{' '.join(map(str, shown.target_ids))}⟧" and shown.target_ids[-1] == tokenizer.end_id
  assert " ".join(told[6:-1]).split() == [str(id) for id in shown.prompt_ids]
  assert show.lines(tokenizer, shown, show.colour)[4].endswith("\x1b[1;32m12<|im_end|>\x1b[0m")


def test_a_plain_prompt_begins_with_the_begin_mark(tmp_path: Path):
  tokenizer = Tokenizer.load(write_gguf(tmp_path / "m.gguf", "llama-bpe"))
  told = show.lines(tokenizer, show.example(tokenizer, TEMPLATE, ROW), show.brackets)
  assert told[0] == "  chat template: none, plain text"
  assert told[4] == "<|im_start|>hi\n\nReasoning: ah⟦12<|im_end|>⟧"
