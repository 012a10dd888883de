"""What a published set is: where it officially lies, how it becomes rows, what must come out."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from fiat_jax.preparation.files import Files

GIB = 2**30
RAW = "https://raw.githubusercontent.com"


class Part(NamedTuple):
  """A converted row and where it belongs. `view` is empty where a set has but one."""

  view: str
  split: str
  row: dict[str, Any]


Converter = Callable[[Files], Iterator[Part]]


@dataclasses.dataclass(frozen=True)
class Remote:
  """A file at its official address. `size` and `sha256` are empty where no public source states them."""

  address: str
  size: int = 0
  sha256: str = ""
  called: str = ""

  @property
  def name(self) -> str:
    """What the file is called here; by default as at the end of its address."""
    return self.called or self.address.rsplit("/", 1)[-1]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Set:
  """A published set.

  Attributes:
    wanted: a regular expression that the paths of the needed files in an archive match at their end.
    published: rows by `VIEW/SPLIT` (or `SPLIT`) and language; the language `` counts all.
    spoken: likewise, the languages that must be there of which nobody published how many rows they have.
    limit: bytes that all needed files may have unpacked.
    unseen: what of it was written down without its source at hand, in words.
    languages, metric, reasoning: words for the table in the README.
  """

  name: str
  title: str
  remotes: tuple[Remote, ...]
  convert: Converter
  wanted: str = ""
  published: Mapping[str, Mapping[str, int]] = dataclasses.field(default_factory=dict)
  spoken: Mapping[str, Sequence[str]] = dataclasses.field(default_factory=dict)
  limit: int = 4 * GIB
  unseen: str = ""
  licence: str
  home: str
  languages: str = "English"
  metric: str
  reasoning: str = "none"

  @property
  def least(self) -> dict[str, dict[str, int]]:
    """What must be there: `published`, and one row at least of each language that is `spoken`."""
    spoken = {part: dict.fromkeys(languages, 1) for part, languages in self.spoken.items()}
    return {part: {**spoken.get(part, {}), **self.published.get(part, {})} for part in (*self.published, *spoken)}
