"""Words in scripts with and without blanks."""

from __future__ import annotations

import pytest

from fiat_jax.data.words import unspaced, words


@pytest.mark.parametrize(
  "text, expected",
  [
    ("It's  2,5 km — well-known!", ["it", "s", "2", "5", "km", "well", "known"]),
    ("कौन-सा शहर है?", ["कौन", "सा", "शहर", "है"]),  # vowel signs stay with their words
    ("東京は、どこ？", ["東", "京", "は", "ど", "こ"]),
    ("ที่นี่", ["ที่", "นี่"]),  # tone marks stay with their letters
    ("The 東京 tower", ["the", "東", "京", "tower"]),
    ("ما هي؟", ["ما", "هي"]),
    ("?!", []),
  ],
)
def test_words_of_any_script(text: str, expected: list[str]):
  assert words(text) == expected


def test_scripts_without_blanks():
  assert all(map(unspaced, "京どカคລမខ")) and not any(map(unspaced, "aяकع가"))
