"""The scripts that recorded `tests/golden`, as modules: their weights and batches need numpy alone."""

import functools
import importlib.util
from pathlib import Path
from types import ModuleType

GOLDEN = Path(__file__).parent / "golden"


@functools.cache
def golden_script(name: str) -> ModuleType:
  """`tests/golden/make_<name>.py`, run once."""
  spec = importlib.util.spec_from_file_location(f"make_{name}", GOLDEN / f"make_{name}.py")
  assert spec is not None and spec.loader is not None
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module
