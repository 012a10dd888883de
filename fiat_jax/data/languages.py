"""Names of languages to codes: "English", "bengali" and "বাংলা" to `en`, `bn` and `bn`."""

from __future__ import annotations

import functools
import re

CODE = re.compile(r"[A-Za-z]{1,3}|[A-Za-z]{2,3}[-_].*", re.DOTALL)  # "en", "eng", "pt-BR", "zh_Hans": codes already


@functools.lru_cache(maxsize=4096)
def code(name: str) -> str:
  """The BCP 47 tag of a language's name in any language; a code, and what is no known name, stays as it is.

  So does a name with an underscore, such as a task's: no language has one, and the search would find one all the same.
  """
  if CODE.fullmatch(name) or "_" in name or not (name[:1].isalpha() and name.isprintable()):
    return name
  import langcodes

  try:
    return langcodes.find(name.strip()).to_tag()
  except (LookupError, UnicodeDecodeError):  # the second where its table holds a text's beginning
    return name
