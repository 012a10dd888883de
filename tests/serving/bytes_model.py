"""A model over bytes with a chat format, small enough to start a server on: its texts are full of half characters."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import tiny
from tokenizers import Tokenizer as Backend
from tokenizers import decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from fiat_jax.data.byt5_tokenizer import byte_characters

MARKS = ["<|im_start|>", "<|im_end|>"]
CHATML = (
  "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
  "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def write_bytes_model(folder: Path) -> Path:
  """A random Llama of three narrow layers as a Hugging Face folder."""
  backend = Backend(models.BPE({character: byte for byte, character in enumerate(byte_characters())}, []))
  backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
  backend.decoder = decoders.ByteLevel()
  backend.add_special_tokens(MARKS)
  config = dataclasses.replace(tiny.CONFIG, vocab_size=256 + len(MARKS), max_length=1024)
  tiny.write_checkpoint(folder, config, tiny.hugging_face_tensors(config, tiny.random_params(config)))
  wrapped = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token=MARKS[1])
  wrapped.chat_template = CHATML
  wrapped.save_pretrained(folder)
  return folder
