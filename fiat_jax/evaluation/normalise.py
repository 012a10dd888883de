"""What answers look like before their words are compared: SQuAD's English normaliser, and one for any language."""

from __future__ import annotations

import functools
import re
import string
import unicodedata

_ASCII_PUNCTUATION = str.maketrans("", "", string.punctuation)
_ENGLISH = re.compile(r"\b(a|an|the)\b")
# MLQA's articles (Lewis et al., 2020, the evaluation script's lists), by the language of the answer.
_ARTICLES = {
  "ar": re.compile(r"\sال^|ال"),
  "de": re.compile(r"\b(ein|eine|einen|einem|eines|einer|der|die|das|den|dem|des)\b"),
  "es": re.compile(r"\b(un|una|unos|unas|el|la|los|las)\b"),
  "vi": re.compile(r"\b(của|là|cái|chiếc|những)\b"),
}
_LATIN = ("de", "es", "vi")  # an English article may be a word of these
# Han, as MLQA splits it, and kana: no white space stands between words.
_UNSPACED = re.compile(r"([\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uff66-\uff9f])")


def normalise_squad(text: str) -> str:
  """SQuAD's normaliser (Rajpurkar et al., 2016): lower case, no ASCII punctuation, no articles, single spaces.

  XTREME-UP scores with it in every language.
  """
  return " ".join(_ENGLISH.sub(" ", text.lower().translate(_ASCII_PUNCTUATION)).split())


def normalise_multilingual(text: str, lang: str) -> str:
  """MLQA's normaliser for any language: no punctuation of any script, no articles, Chinese and Japanese by character.

  Args:
    text: an answer.
    lang: the row's language. Its articles go; English ones do too unless it is one of those in which they may be
      words, since answers to cross-lingual questions are English.
  """
  text = "".join(character for character in text.lower() if not _is_punctuation(character))
  lang = re.split("[-_]", lang.lower())[0]
  if lang in _ARTICLES:
    text = _ARTICLES[lang].sub(" ", text)
  if lang not in _LATIN:
    text = _ENGLISH.sub(" ", text)
  return " ".join(_UNSPACED.sub(r" \1 ", text).split())


@functools.lru_cache(maxsize=4096)
def _is_punctuation(character: str) -> bool:
  return character in string.punctuation or unicodedata.category(character).startswith("P")
