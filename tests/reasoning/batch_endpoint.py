"""The test server's batches: files go up, batches of them are made, looked at and end, and files come down."""

from __future__ import annotations

import json
import time
import urllib.parse
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
  from endpoint import Endpoint


class Batches:
  """What is told to it before it serves.

  Attributes:
    absent: there is no batch interface.
    looks: so many times a batch is found in progress before it ends.
    ends: how each batch ends, by its number; `completed` where there is none.
    most: of more requests in one batch it says that they are too many.
    lost: of so many first batches it makes the answer is lost on its way (`close`), or is a 500 (`500`).
    cuts: so many first files that come down are cut off.
    refused: so many first calls to make a batch are refused with 429.
    at_work: what it calls a batch that has not ended.
  """

  def __init__(self):
    self.files: dict[str, bytes] = {}
    self.made: list[dict[str, Any]] = []
    self.looks, self.most, self.refused, self.cuts = 1, 10**9, 0, 0
    self.absent, self.at_work = False, "validating"
    self.ends: dict[int, str] = {}
    self.lost: list[str] = []

  def post(self, e: Endpoint, path: str, raw: bytes) -> tuple[int, str]:
    """Status, 0 to break the connection off, and content."""
    if self.absent:
      return 404, json.dumps({"error": {"message": "no such page"}})
    if path.endswith("/files"):
      boundary = raw.split(b"\r\n", 1)[0]
      part = next(p for p in raw.split(boundary) if b"filename=" in p)
      content = part.split(b"\r\n\r\n", 1)[1].removesuffix(b"\r\n")
      return 200, json.dumps(self._keep(content) | {"bytes": len(content), "purpose": "batch"})
    if self.refused:
      self.refused -= 1
      return 429, json.dumps({"error": {"message": "not now"}})
    given = json.loads(raw)
    batch = {
      "id": f"batch_{len(self.made)}", "object": "batch", "endpoint": given["endpoint"], "status": self.at_work,
      "input_file_id": given["input_file_id"], "completion_window": "24h", "created_at": int(time.time()), "looked": 0,
    }  # fmt: skip
    self.made.append(batch)
    lost = self.lost.pop(0) if self.lost else ""
    return {"": 200, "close": 0, "500": 500}[lost], json.dumps(batch)

  def get(self, e: Endpoint, path: str) -> tuple[int, str]:
    parts = urllib.parse.urlsplit(path)
    name = parts.path.removeprefix("/v1/")
    if name == "batches":
      after = urllib.parse.parse_qs(parts.query).get("after", [""])[0]
      newest = self.made[::-1]
      start = next((n + 1 for n, batch in enumerate(newest) if batch["id"] == after), 0)
      page = newest[start : start + 2]  # small pages, so that there are several
      return 200, json.dumps({"object": "list", "data": page, "has_more": start + 2 < len(newest)})
    if name.startswith("files/"):
      return 200, self.files[name.split("/")[1]].decode()
    batch = next((batch for batch in self.made if name == f"batches/{batch['id']}"), None)
    if batch is None:
      return 404, json.dumps({"error": {"message": "no such batch"}})
    batch["looked"] += 1
    if batch["status"] == self.at_work and batch["looked"] > self.looks:
      self._end(e, batch)
    return 200, json.dumps(batch)

  def _end(self, e: Endpoint, batch: dict[str, Any]) -> None:
    lines = [json.loads(line) for line in self.files[batch["input_file_id"]].splitlines()]
    end = self.ends.get(self.made.index(batch), "completed")
    if end == "failed" or len(lines) > self.most:
      error = {"code": "token_limit_exceeded" if end != "failed" else "invalid", "message": "too much"}
      batch |= {"status": "failed", "errors": {"object": "list", "data": [error]}}
      return
    out, errors = [], []
    for n, line in enumerate(lines):
      self._work(e, line, end if n >= len(lines) // 2 else "completed", out, errors)
    batch["status"] = end
    if out:
      batch["output_file_id"] = self._keep("\n".join(out).encode() + b"\n")["id"]
    if errors:
      batch["error_file_id"] = self._keep("\n".join(errors).encode() + b"\n")["id"]

  def _work(self, e: Endpoint, line: dict[str, Any], end: str, out: list[str], errors: list[str]) -> None:
    from endpoint import answer, prompt_of

    body, base = line["body"], {"id": "r", "custom_id": line["custom_id"]}
    if end != "completed":
      errors.append(json.dumps(base | {"response": None, "error": {"code": f"batch_{end}", "message": "too late"}}))
      return
    e.attempts[prompt_of(body)] += 1
    e.bodies.append(body)
    fault = e.fault(e, prompt_of(body), e.attempts[prompt_of(body)])
    if fault.startswith("400:") or fault.isdigit():
      status, _, message = fault.partition(":")
      told = {"status_code": int(status), "body": {"error": {"message": message or "not now"}}}
      errors.append(json.dumps(base | {"response": told, "error": None}))
    elif fault != "missing":
      told = {"status_code": 200, "body": answer(e, body, fault)}
      whole = json.dumps(base | {"response": told, "error": None})
      out.append(whole[: len(whole) // 2] if fault == "torn" else whole)

  def _keep(self, content: bytes) -> dict[str, Any]:
    id = f"file_{len(self.files)}"
    self.files[id] = content
    return {"id": id, "object": "file", "created_at": 0, "filename": "f.jsonl", "status": "processed"}
