"""What counts as a word in any script: between blanks, and each character where a script writes no blanks."""

from __future__ import annotations

import functools
import unicodedata

# First and last characters of the blocks of Thai, Lao, Myanmar, Khmer, kana, and Chinese characters.
_UNSPACED = (
  (0x0E00, 0x0EFF),
  (0x1000, 0x109F),
  (0x1780, 0x17FF),
  (0x2E80, 0x2FDF),
  (0x3005, 0x3007),
  (0x3040, 0x30FF),
  (0x3400, 0x4DBF),
  (0x4E00, 0x9FFF),
  (0xA9E0, 0xA9FF),
  (0xAA60, 0xAA7F),
  (0xF900, 0xFAFF),
  (0xFF66, 0xFF9F),
  (0x20000, 0x3FFFF),
)


@functools.lru_cache(maxsize=1 << 16)
def unspaced(character: str) -> bool:
  """Whether the character belongs to a script that writes no blanks between words."""
  return any(first <= ord(character) <= last for first, last in _UNSPACED)


class _Separated(dict[int, str]):
  """For `str.translate`: punctuation becomes a blank, a letter of an unspaced script begins a word; made as needed."""

  def __missing__(self, code: int) -> str:
    character = chr(code)
    category = unicodedata.category(character)
    if category[0] in "PSZC":
      self[code] = " "
    elif category[0] != "M" and unspaced(character):  # vowel signs and tone marks stay with their letter
      self[code] = f" {character}"
    else:
      self[code] = character
    return self[code]


_SEPARATED = _Separated()


def words(text: str) -> list[str]:
  """The words of a text in lower case without punctuation; the letters where words are not separated."""
  return text.lower().translate(_SEPARATED).split()
