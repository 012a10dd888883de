"""A part of the page."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from fiat_jax.evaluation import verdict
from fiat_jax.report.table import Table

SURE = f"{100 * (1 - verdict.ERROR):g} % interval"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Part:
  """Pictures and tables under a heading, with sentences about them."""

  name: str
  heading: str
  words: Sequence[str] = ()
  pictures: Sequence[str] = ()
  tables: Sequence[Table] = ()
