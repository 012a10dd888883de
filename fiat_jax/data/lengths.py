"""Lengths in tokens, field by field, and how many tokens a vocabulary spends on a word of each language."""

from __future__ import annotations

import array
import collections
import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from fiat_jax import prompts
from fiat_jax.data.rows import Row
from fiat_jax.data.tokenizer import Tokenizer
from fiat_jax.data.words import unspaced, words

CHUNK = 1000  # rows whose ids are in memory at a time
POOR = 4.0  # tokens a word from which a vocabulary is poor for a language
POOR_CHARACTER = 1.5  # the same a character, where a script writes no blanks: a fitting vocabulary has 0.5 to 1
FEWEST_WORDS = 10
_BLOCKS = " ▁▂▃▄▅▆▇█"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Lengths:
  """Tokens of one field over the rows that have it; `rows` are their positions in the split."""

  tokens: np.ndarray
  rows: np.ndarray

  def fits(self, share: float) -> int:
    """The smallest limit that this share of the rows keeps."""
    return int(np.quantile(self.tokens, share, method="inverted_cdf"))

  def over(self, limit: int) -> np.ndarray:
    """The positions of the rows that exceed the limit."""
    return self.rows[self.tokens > limit]

  def histogram(self, bins: int = 16) -> str:
    """How many rows have which length, from the shortest to the longest: a block's height is its share."""
    low, high = int(self.tokens.min()), int(self.tokens.max())
    counts, _ = np.histogram(self.tokens, bins=min(bins, high - low + 1), range=(low, high + 1))
    heights = np.ceil(counts * (len(_BLOCKS) - 1) / counts.max()).astype(int)  # any row at all is seen
    return "".join(_BLOCKS[height] for height in heights)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Fertility:
  """Tokens a word, or a character where the script writes no blanks, of one language in one column."""

  lang: str
  column: str
  tokens: float
  characters: bool

  @property
  def poor(self) -> bool:
    return self.tokens > (POOR_CHARACTER if self.characters else POOR)


@dataclasses.dataclass(frozen=True, kw_only=True)
class SplitLengths:
  """The lengths of a split: every column of x, the reasoning, the target with its end mark, the whole prompt.

  The prompt is I_τ around x, with the reasoning where the row has one: the longest that any recipe makes of it.
  `fertilities` holds each language's worst column.
  """

  columns: Mapping[str, Lengths]
  reasoning: Lengths | None
  target: Lengths
  prompt: Lengths
  fertilities: Sequence[Fertility]

  def longest_column(self, row: int) -> str:
    """The column of x, or `reasoning`, that has the most tokens in the row of this position."""
    fields = dict(self.columns) | ({"reasoning": self.reasoning} if self.reasoning else {})
    at = {name: field.tokens[field.rows == row] for name, field in fields.items()}
    return max(at, key=lambda name: int(at[name].sum()))


def split_lengths(
  tokenizer: Tokenizer, rows: Sequence[Row], instruction: str, on_rows: Callable[[int], object] = lambda count: None
) -> SplitLengths:
  """Tokenises a split, `CHUNK` rows at a time; `on_rows` is called with the number of rows after each."""
  forms = functools.cache(functools.partial(prompts.tuned_prompt, instruction, use_instruction=True))
  counts: dict[str, array.array[int]] = collections.defaultdict(lambda: array.array("q"))
  columns: dict[str, array.array[int]] = collections.defaultdict(
    lambda: array.array("q")
  )  # position, tokens, and so on
  reasoned = array.array("q")
  spent: dict[tuple[str, str], np.ndarray] = collections.defaultdict(lambda: np.zeros(3, int))
  for start in range(0, len(rows), CHUNK):
    chunk = rows[start : start + CHUNK]
    for name in dict.fromkeys(name for row in chunk for name in row.fields):
      having = [(start + n, row) for n, row in enumerate(chunk) if name in row.fields]
      lengths = _count(tokenizer, [row.fields[name] for _, row in having])
      for (position, row), length in zip(having, lengths, strict=True):
        columns[name].extend((position, length))
        found = words(row.fields[name])
        characters = 0 if row.fields[name].isascii() else sum(unspaced(word[0]) for word in found)
        spent[row.lang, name] += (length, len(found), characters)
    reasoned.extend(start + n for n, row in enumerate(chunk) if row.reasoning)
    counts["reasoning"].extend(_count(tokenizer, [row.reasoning for row in chunk if row.reasoning]))
    counts["target"].extend(count + 1 for count in _count(tokenizer, [row.targets[0] for row in chunk]))
    texts = [
      prompts.fill(forms(use_reasoning=bool(row.reasoning)), {"x": row.x, "reasoning": row.reasoning or ""})
      for row in chunk
    ]
    counts["prompt"].extend(map(len, tokenizer.encode_prompts(texts)))
    on_rows(len(chunk))
  everywhere = np.arange(len(rows))
  whole = {name: np.array(values, int) for name, values in counts.items()}
  return SplitLengths(
    columns={name: _lengths(np.array(found, int).reshape(-1, 2)) for name, found in columns.items()},
    reasoning=Lengths(tokens=whole["reasoning"], rows=np.array(reasoned, int)) if reasoned else None,
    target=Lengths(tokens=whole["target"], rows=everywhere),
    prompt=Lengths(tokens=whole["prompt"], rows=everywhere),
    fertilities=_fertilities(spent),
  )


def _lengths(found: np.ndarray) -> Lengths:
  return Lengths(tokens=found[:, 1], rows=found[:, 0])


def _count(tokenizer: Tokenizer, texts: Sequence[str]) -> list[int]:
  return [len(ids) for ids in tokenizer.encode_batch(texts)]


def _fertilities(spent: Mapping[tuple[str, str], np.ndarray]) -> list[Fertility]:
  """Each language's column of the most tokens a word, languages sorted; too few words tell nothing."""
  worst: dict[str, Fertility] = {}
  for (lang, column), (tokens, count, characters) in sorted(spent.items()):
    if count < FEWEST_WORDS:
      continue
    found = Fertility(lang=lang, column=column, tokens=float(tokens / count), characters=bool(2 * characters > count))
    if lang not in worst or found.tokens > worst[lang].tokens:
      worst[lang] = found
  return list(worst.values())
