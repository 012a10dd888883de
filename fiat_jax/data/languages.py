"""Names of languages to codes: "English", "bengali" and "বাংলা" to `en`, `bn` and `bn`."""

from __future__ import annotations

import functools
import re

CODE = re.compile(r"[A-Za-z]{1,3}|[A-Za-z]{2,3}[-_].*", re.DOTALL)  # "en", "eng", "pt-BR", "zh_Hans": codes already
NAME = re.compile(r"[^\W\d_][\w\s()',.’-]*")


@functools.lru_cache(maxsize=4096)
def code(name: str) -> str:
  """The BCP 47 tag of a language's name in any language; a code, and what is no known name, stays as it is."""
  if CODE.fullmatch(name) or not NAME.fullmatch(name.strip()):
    return name
  import langcodes

  try:
    return langcodes.find(name.strip()).to_tag()
  except (LookupError, UnicodeDecodeError):  # the second where its table holds a text's beginning
    return name
