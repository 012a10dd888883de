"""What a run wrote down: `metrics.jsonl`, TensorBoard events, the loss picture. Times are in the events alone.

Every process of a run has the records; the first writes them.

`metrics.jsonl` and the picture are the same, byte for byte, for a run that was stopped and went on.
"""

from __future__ import annotations

import json
import pathlib
import time
from collections.abc import Mapping, Sequence
from typing import Any

from fiat_jax import processes
from fiat_jax.errors import UserError
from fiat_jax.evaluation import metrics
from fiat_jax.training.picture import loss_picture
from fiat_jax.whole import read_records, read_result, write_whole

FLUSH_SECONDS = 10.0  # flushing events waits for the disk

Record = dict[str, Any]


class Journal:
  """The records of one run, in order."""

  def __init__(self, folder: pathlib.Path):
    self._folder = folder
    self.records: list[Record] = []
    self._file = self._events = None

  def open(self, records: list[Record]) -> None:
    """Starts from what a checkpoint holds; lines of `metrics.jsonl` beyond it belong to steps that are done again."""
    self.close()
    self.records = list(records)
    if not processes.first():
      return
    path = self._folder / "metrics.jsonl"
    write_whole(path, "".join(_line(record) for record in self.records))
    self._file = open(path, "a", encoding="utf-8")  # noqa: SIM115  closed by `close`
    self._events = _Events(self._folder / "events", self.records[-1]["step"] if self.records else -1)

  def write(self, record: Record) -> None:
    self.records.append(record)
    if not processes.first():
      return
    assert self._file and self._events, "open comes first"
    self._file.write(_line(record))
    self._file.flush()
    for name, value in record.items():
      if isinstance(value, Mapping):
        for part, number in value.items():
          self._events.write(f"{name}/{part}", number, record["step"])
      elif name != "step":
        self._events.write(name, value, record["step"])
    self._events.flush_now_and_then()

  def draw(self, metric: str) -> None:
    """Writes `loss.svg`."""
    write_whole(self._folder / "loss.svg", loss_picture(self.records, metric))

  def validated(self, step: int) -> bool:
    return any(r["step"] == step and "validation" in r for r in self.records)

  def best(self, metric: str) -> int:
    """The step with the best validation metric; the first of equals."""
    return _best(self.records, metric)

  def validation(self, step: int) -> dict[str, float]:
    """The validation metrics of a step."""
    return next(r["validation"] for r in self.records if r["step"] == step and "validation" in r)

  def waited(self, metric: str) -> int:
    """The number of validations since the best one."""
    best = self.best(metric)
    return sum("validation" in r and r["step"] > best for r in self.records)

  def last(self, name: str) -> Any | None:
    """The newest value of that name, or None."""
    return next((r[name] for r in reversed(self.records) if name in r), None)

  def close(self) -> None:
    opened, self._file, self._events = (self._file, self._events), None, None
    for file in opened:
      if file:
        file.close()


class _Events:
  """TensorBoard events, written here and now: tensorboardX's own thread would hang for ever on a full disk."""

  def __init__(self, folder: pathlib.Path, last: int):
    from tensorboardX.event_file_writer import EventsWriter
    from tensorboardX.proto.event_pb2 import Event, SessionLog  # pyright: ignore[reportAttributeAccessIssue]

    folder.mkdir(parents=True, exist_ok=True)
    attempts = any(folder.iterdir())
    self._event = Event
    self._writer = EventsWriter(str(folder / "events"), f".{time.time_ns()}")
    self._flushed = 0.0
    if attempts:  # what the one before wrote of later steps no longer counts
      restart = SessionLog(status=SessionLog.START)
      self._writer.write_event(self._event(step=last + 1, wall_time=time.time(), session_log=restart))

  def write(self, tag: str, value: float, step: int) -> None:
    from tensorboardX.summary import scalar

    self._writer.write_event(self._event(step=step, wall_time=time.time(), summary=scalar(tag, value)))

  def flush_now_and_then(self) -> None:
    if time.monotonic() - self._flushed > FLUSH_SECONDS:
      self._writer.flush()
      self._flushed = time.monotonic()

  def close(self) -> None:
    self._writer.close()


def best_step(folder: pathlib.Path, metric: str) -> int:
  """The same of a finished run: by its `results.json`, or else its `metrics.jsonl`.

  Raises:
    UserError: there is no such file or no validation in it, or it is damaged.
  """
  if (done := folder / "results.json").exists():
    if not isinstance(step := read_result(done).get("best_step"), int):
      raise UserError("names no best_step: delete it, and the command that trained writes it again", done)
    return step
  return _best(read_records(folder / "metrics.jsonl"), metric)


def _best(records: Sequence[Record], metric: str) -> int:
  scores = {r["step"]: r["validation"] for r in records if "validation" in r}
  known = next(iter(scores.values()), {})
  if metric not in known:
    raise UserError(f"the metric {metric!r} that chooses the checkpoint is not computed; there is {', '.join(known)}")
  return max(scores, key=lambda step: (metrics.rank(metric, scores[step][metric]), -step))


def _line(record: Record) -> str:
  return json.dumps(record) + "\n"
