"""What the tests of `fiat annotate` share."""

from __future__ import annotations

import pathlib

import annotating
import pytest

from fiat_jax.reasoning import openai as client


@pytest.fixture
def rows(tmp_path: pathlib.Path) -> pathlib.Path:
  return annotating.write_rows(tmp_path / "rows.jsonl")


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
  monkeypatch.setattr(client, "FIRST_WAIT", 0.01)
  monkeypatch.setattr(client, "LONGEST_WAIT", 0.05)
  monkeypatch.setattr(client, "HOPELESS", 20)
  monkeypatch.setattr(client, "REFUSALS", 20)
