"""Names and codes of languages to codes: "English", "EN", "eng" and "বাংলা" to `en`, `en`, `en` and `bn`."""

from __future__ import annotations

import functools
import re

PLAIN = re.compile(r"[a-z]{2}|und|[A-Za-z]|[A-Za-z]{2,3}[-_].*", re.DOTALL)  # "en", "pt-BR", "zh_Hans": codes already
BARE = re.compile(r"[A-Za-z]{2,3}")  # "EN", "eng", "Lao"


@functools.lru_cache(maxsize=4096)
def code(name: str) -> str:
  """The BCP 47 tag of a language's name in any language; blanks around it aside, what is no known name stays as it is.

  A code of two or three letters becomes the one of two, where there is one, in lower case; one with more parts stays as
  it is. So does a name with an underscore, such as a task's: no language has one, and the search would find one all the
  same.
  """
  name = name.strip()
  if PLAIN.fullmatch(name) or "_" in name or not (name[:1].isalpha() and name.isprintable()):
    return name
  import langcodes

  if BARE.fullmatch(name):
    short = langcodes.standardize_tag(name.lower())
    known = langcodes.Language.get(name.lower()).is_valid()
    return (short if len(short) == 2 else name.lower()) if known else name
  try:
    return langcodes.find(name).to_tag()
  except (LookupError, UnicodeDecodeError):  # the second where its table holds a text's beginning
    return name
