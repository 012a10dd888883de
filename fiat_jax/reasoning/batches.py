"""Batches that an endpoint works on by itself: which requests went in which, kept on the disk before they are sent.

Records, in `batches-NNNNN.jsonl`, by the batch's tag: `prepared`, its claims; `uploaded`, the endpoint's name of the
file that holds its requests; `submitted`, the endpoint's name of the batch; `ended`, and how. So whatever command comes
after one that was stopped knows what is under way, and what may have been submitted: a batch of a file that is known.
"""

from __future__ import annotations

import dataclasses
import fcntl
import pathlib
import time
import uuid
from collections.abc import Mapping, Sequence
from typing import IO

from fiat_jax.reasoning.records import Record, Records
from fiat_jax.reasoning.request import Asked, Claim


@dataclasses.dataclass(frozen=True, kw_only=True)
class Batch:
  """Claims by their requests' keys. `file` and `id` are the endpoint's names, empty where they are not known yet."""

  tag: str
  endpoint: str
  time: float
  claims: Mapping[str, Claim]
  file: str = ""
  id: str = ""


class Batches:
  """The batches of a store.

  Attributes:
    open: those that have not ended, by tag.
    of: the tag of the batch that a request is in, by the request's key.
  """

  def __init__(self, folder: pathlib.Path):
    self._log, self._folder = Records(folder, "batches"), folder / "sessions"
    self.open: dict[str, Batch] = {}
    self.of: dict[str, str] = {}
    self._attended: dict[str, IO[str]] = {}
    self.refresh()

  def refresh(self) -> None:
    """Takes in what other processes have added."""
    for record in self._log.fresh():
      self._take_in(record)

  def prepare(self, endpoint: str, claims: Sequence[Claim]) -> Batch:
    """A batch that is to be submitted; this process attends to it."""
    batch = Batch(
      tag=uuid.uuid4().hex[:16],
      endpoint=endpoint,
      time=time.time(),
      claims={claim.asked.key: claim for claim in claims},
    )
    self._lock(batch.tag)
    parts = [(*dataclasses.astuple(claim.asked), claim.reservation) for claim in claims]
    self._write(
      {"kind": "prepared", "tag": batch.tag, "endpoint": endpoint, "time": batch.time, "claims": parts},
    )
    return batch

  def uploaded(self, batch: Batch, file: str) -> Batch:
    self._write({"kind": "uploaded", "tag": batch.tag, "file": file})
    return self.open[batch.tag]

  def submitted(self, batch: Batch, id: str) -> Batch:
    self._write({"kind": "submitted", "tag": batch.tag, "id": id})
    return self.open[batch.tag]

  def ended(self, batch: Batch, status: str) -> None:
    """All that it brought is kept."""
    self._write({"kind": "ended", "tag": batch.tag, "status": status})
    self._attended.pop(batch.tag).close()
    (self._folder / f"batch-{batch.tag}").unlink(missing_ok=True)

  def attend(self, batch: Batch) -> bool:
    """Whether this process looks after it from now on: no other that lives does, and it has not ended."""
    if batch.tag not in self._attended and not self._lock(batch.tag):
      return False
    self.refresh()
    return batch.tag in self.open

  def _lock(self, tag: str) -> bool:
    self._folder.mkdir(parents=True, exist_ok=True)
    file = open(self._folder / f"batch-{tag}", "a")  # noqa: SIM115  open, and locked, while this process attends
    try:
      fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
      file.close()
      return False
    self._attended[tag] = file
    return True

  def _write(self, record: Record) -> None:
    with self._log.locked():
      self._log.append([record])
      self.refresh()

  def _take_in(self, record: Record) -> None:
    kind, tag = record.get("kind"), str(record["tag"])
    if kind == "prepared":
      found = [Claim(_asked(parts), parts[-1]) for parts in record["claims"]]
      claims = {claim.asked.key: claim for claim in found}
      self.open[tag] = Batch(tag=tag, endpoint=record["endpoint"], time=record["time"], claims=claims)
      self.of.update((key, tag) for key in claims)
    elif kind == "uploaded":
      self.open[tag] = dataclasses.replace(self.open[tag], file=record["file"])
    elif kind == "submitted":
      self.open[tag] = dataclasses.replace(self.open[tag], id=record["id"])
    elif kind == "ended" and (batch := self.open.pop(tag, None)):
      for key in batch.claims:
        if self.of.get(key) == tag:
          del self.of[key]


def _asked(parts: Sequence) -> Asked:
  key, row, sample, beta, endpoint, size, _ = parts
  return Asked(key=key, row=row, sample=sample, beta=beta, endpoint=endpoint, bytes=size)
