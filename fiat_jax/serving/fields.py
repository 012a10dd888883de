"""A JSON object whose fields are read one by one, type and bounds checked; what nobody reads is refused."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from typing import Any

from fiat_jax import prompts
from fiat_jax.serving.refusal import Refusal


def parse_object(body: bytes) -> dict[str, Any]:
  """The JSON object that a body is.

  Raises:
    Refusal: it is none, or holds numbers that JSON has not.
  """
  try:
    found = json.loads(body.decode("utf-8"), parse_constant=_refuse_constant)
  except (ValueError, RecursionError) as e:
    raise Refusal(f"the body is no JSON: {str(e)[:200]}", code="invalid_json") from None
  if not isinstance(found, dict):
    raise Refusal("the body is no JSON object", code="invalid_json")
  return found


def _refuse_constant(name: str) -> None:
  raise ValueError(f"{name} is no number of JSON")


class Fields:
  """The fields of an object; null counts as left out. Every method raises Refusal where the value is not as it must be.

  Args:
    body: the object.
    place: what stands before the fields' names in messages, such as `messages[0].`.
  """

  def __init__(self, body: Mapping[str, Any], place: str = ""):
    self._body, self._place, self._known = body, place, set[str]()

  def name(self, field: str) -> str:
    return self._place + field

  def take(self, field: str) -> Any:
    """The value, or None."""
    self._known.add(field)
    return self._body.get(field)

  def need(self, field: str) -> Any:
    value = self.take(field)
    if value is None:
      raise Refusal(f"{self.name(field)} is missing", param=self.name(field), code="missing_required_parameter")
    return value

  def integer(self, field: str, default: int | None, low: int, high: int) -> int | None:
    value = self.take(field)
    if value is None:
      return default
    if type(value) is not int or not low <= value <= high:
      raise self._wrong(field, value, f"a whole number from {low} to {high}")
    return value

  def number(self, field: str, default: float, low: float, high: float) -> float:
    value = self.take(field)
    if value is None:
      return default
    if type(value) not in (int, float) or not math.isfinite(value) or not low <= value <= high:
      raise self._wrong(field, value, f"a number from {low:g} to {high:g}")
    return float(value)

  def truth(self, field: str) -> bool:
    value = self.take(field)
    if value is not None and type(value) is not bool:
      raise self._wrong(field, value, "true or false")
    return bool(value)

  def text(self, field: str) -> str:
    return check_text(self.need(field), self.name(field))

  def neutral(self, allowed: Mapping[str, tuple[Any, ...]]) -> None:
    """Refuses fields that would change the answer and are not done, unless their value asks for nothing."""
    for field, values in allowed.items():
      value = self.take(field)
      if value is not None and not any(value == v and type(value) is type(v) for v in values):
        shown = f" but as {json.dumps(values[0])}" if values else ""
        raise Refusal(
          f"{self.name(field)} is not supported here{shown}: leave it out",
          param=self.name(field),
          code="unsupported_parameter",
        )

  def ignore(self, fields: Iterable[str]) -> None:
    """Fields that change no answer."""
    self._known.update(fields)

  def finish(self) -> None:
    """Refuses what nobody has read."""
    for field in self._body.keys() - self._known:
      name = self.name(field)[:80]
      raise Refusal(f"{name!r} is {prompts.nearest(field[:80], self._known)}", param=name, code="unknown_parameter")

  def _wrong(self, field: str, value: Any, wanted: str) -> Refusal:
    name = self.name(field)
    return Refusal(f"{name} is {json.dumps(value)[:80]}: give {wanted}", param=name, code="invalid_value")


def check_text(value: Any, name: str) -> str:
  """A string that UTF-8 can hold."""
  if not isinstance(value, str):
    raise Refusal(f"{name} is no string", param=name, code="invalid_type")
  try:
    value.encode("utf-8")
  except UnicodeEncodeError:
    raise Refusal(f"{name} holds half a surrogate pair, which is no text", param=name, code="invalid_value") from None
  return value
