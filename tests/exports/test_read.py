"""What a deployment's file from elsewhere may not hold, and what a card tells of where the base is from."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fiat_jax.configuration import configure
from fiat_jax.errors import UserError
from fiat_jax.exports import card, deployment

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
