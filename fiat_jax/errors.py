"""What the user can mend: told in one line on stderr, exit code 2."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any


class UserError(Exception):
  """Something the user can mend.

  Args:
    message: what was found and what to do, in one line.
    path: the file it was found in, if any.
    line: the line in that file, counted from 1.
  """

  def __init__(self, message: str, path: str | os.PathLike[str] | None = None, line: int | None = None):
    place = "" if path is None else f"{os.fspath(path)}:" + ("" if line is None else f"{line}:") + " "
    super().__init__(place + " ".join(message.split()))


def all_of(*checks: Callable[[], Any]) -> None:
  """Raises one UserError with whatever is wrong by any of the checks, each of which raises its own."""
  wrong = list[str]()
  for check in checks:
    try:
      check()
    except UserError as e:
      wrong.append(str(e))
  if wrong:
    raise UserError("; ".join(dict.fromkeys(wrong)))
