"""What a run wrote down: `metrics.jsonl` and TensorBoard events. Wall-clock times are in the events alone.

`metrics.jsonl` is the same, byte for byte, for a run that was stopped and went on.
"""

from __future__ import annotations

import json
import os
import pathlib
from typing import Any

from fiat_jax.errors import UserError


class Journal:
  """The records of one run, in order."""

  def __init__(self, folder: pathlib.Path):
    self._path = folder / "metrics.jsonl"
    self._events_folder = folder / "events"
    self.records: list[dict[str, Any]] = []

  def open(self, records: list[dict[str, Any]]) -> None:
    """Starts from what a checkpoint holds; lines of `metrics.jsonl` beyond it belong to steps that are done again."""
    from tensorboardX import SummaryWriter

    self.records = list(records)
    partial = self._path.with_suffix(".partial")
    partial.write_text("".join(_line(record) for record in self.records))
    os.replace(partial, self._path)
    self._file = open(self._path, "a", encoding="utf-8")  # noqa: SIM115  closed by `close`
    last = self.records[-1]["step"] if self.records else 0
    self._events = SummaryWriter(str(self._events_folder), purge_step=last + 1 if last else None, write_to_disk=True)

  def write(self, record: dict[str, Any]) -> None:
    self.records.append(record)
    self._file.write(_line(record))
    self._file.flush()
    for name, value in record.items():
      if isinstance(value, dict):
        for metric, score in value.items():
          self._events.add_scalar(f"{name}/{metric}", score, record["step"])
      elif name != "step":
        self._events.add_scalar(name, value, record["step"])
    self._events.flush()

  def validated(self, step: int) -> bool:
    return any(r["step"] == step and "validation" in r for r in self.records)

  def best(self, metric: str) -> int:
    """The step with the highest validation metric; the first of equals."""
    return _best(self.records, metric)

  def close(self) -> None:
    self._file.close()
    self._events.close()


def best_step(folder: pathlib.Path, metric: str) -> int:
  """The same, from the `metrics.jsonl` of a finished run.

  Raises:
    UserError: there is no such file or no validation in it.
  """
  path = folder / "metrics.jsonl"
  try:
    records = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
  except (OSError, json.JSONDecodeError) as e:
    raise UserError(f"cannot be read ({e}): train again in a new folder", path) from None
  return _best(records, metric)


def _best(records: list[dict[str, Any]], metric: str) -> int:
  scores = {r["step"]: r["validation"] for r in records if "validation" in r}
  known = next(iter(scores.values()), {})
  if metric not in known:
    raise UserError(f"the metric {metric!r} that chooses the checkpoint is not computed; there is {', '.join(known)}")
  return max(scores, key=lambda step: (scores[step][metric], -step))


def _line(record: dict[str, Any]) -> str:
  return json.dumps(record) + "\n"
