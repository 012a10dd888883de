"""Answers that are a number, at the end of a text or alone."""

from __future__ import annotations

import re

_NUMBER = re.compile(r"(?:(?<!\d)[-−])?(?:\d+(?:[,٬]\d{3})*(?:[.٫]\d+)?|[.٫]\d+)")  # 2010-2015 has no minus
_PLAIN = str.maketrans({",": None, "٬": None, "٫": ".", "−": "-"})


def last_number(text: str) -> float | None:
  """The last number of a text, in the digits of any script, commas between thousands left out; None without one."""
  found = _NUMBER.findall(text)
  return float(found[-1].translate(_PLAIN)) if found else None


def number(prediction: str, target: str) -> float:
  """100 where the last number of the prediction is the target's last (GSM8K, MGSM, SVAMP); 0 where there is none."""
  found, wanted = last_number(prediction), last_number(target)
  return 100.0 * (found is not None and found == wanted)
