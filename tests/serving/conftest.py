"""Tests of a deployment ask the big model's endpoint of `tests/reasoning`."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "reasoning"))
