"""Files from their official addresses: gone on with after a stop, checked by size and SHA-256 where these are known."""

from __future__ import annotations

import hashlib
import http.client
import os
import pathlib
import time
import urllib.error
import urllib.request

from fiat_jax import signals
from fiat_jax.errors import UserError
from fiat_jax.preparation.sets import Remote
from fiat_jax.progress import progress

CHUNK = 2**16
TIMEOUT = 60.0
ATTEMPTS = 4
BREAKS = (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError)


def fetch(remote: Remote, folder: pathlib.Path) -> pathlib.Path:
  """The file in `folder`, downloaded unless it is there; what an earlier call left half done is gone on with.

  Raises:
    UserError: no network, no such file, or a file that is not what was published.
  """
  place = folder / remote.name
  if not place.exists():
    folder.mkdir(parents=True, exist_ok=True)
    _download(remote, partial := place.with_name(place.name + ".partial"))
    try:
      check(remote, partial)
    except UserError:
      partial.unlink()
      raise
    os.replace(partial, place)
  return place


def check(remote: Remote, file: pathlib.Path) -> str:
  """The file's SHA-256. Raises UserError where size or hash is not the published one."""
  size = file.stat().st_size
  if remote.size and size != remote.size:
    raise UserError(f"has {size:,} bytes, and {remote.name} has {remote.size:,}: fetch {remote.address} again", file)
  with file.open("rb") as handle:
    found = hashlib.file_digest(handle, "sha256").hexdigest()
  if remote.sha256 and found != remote.sha256:
    raise UserError(
      f"has the SHA-256 {found[:16]}…, and {remote.name} as published {remote.sha256[:16]}…: it is damaged, or another "
      f"version; fetch {remote.address} again",
      file,
    )
  return found


def _download(remote: Remote, partial: pathlib.Path) -> None:
  for attempt in range(ATTEMPTS):
    try:
      _go_on(remote, partial)
      return
    except urllib.error.HTTPError as e:
      if e.code < 500 or attempt == ATTEMPTS - 1:
        raise _unreachable(remote, f"HTTP {e.code} {e.reason}") from None
    except BREAKS as e:
      if attempt == ATTEMPTS - 1 or _hopeless(e):
        raise _unreachable(remote, str(getattr(e, "reason", "") or e) or type(e).__name__) from None
    time.sleep(0.2 * 4**attempt)


def _hopeless(error: Exception) -> bool:
  """Whether there is no network at all: no name is found, or nobody listens."""
  return (
    isinstance(error, urllib.error.URLError)
    and isinstance(error.reason, OSError)
    and not isinstance(error.reason, TimeoutError)
  )


def _unreachable(remote: Remote, reason: str) -> UserError:
  return UserError(
    f"cannot be fetched ({' '.join(reason.split())[:120]}): fetch it where there is a network, and give the file with "
    "--from FILE",
    remote.address,
  )


def _go_on(remote: Remote, partial: pathlib.Path) -> None:
  """Downloads what `partial` lacks. Its version is kept beside it: another one on the server begins anew."""
  version = partial.with_name(partial.name + ".version")
  have = partial.stat().st_size if partial.exists() and version.exists() else 0
  request = urllib.request.Request(remote.address, headers={"User-Agent": "fiat_jax", "Accept-Encoding": "identity"})
  if have:
    request.add_header("Range", f"bytes={have}-")
    request.add_header("If-Range", version.read_text())
  try:
    answer = urllib.request.urlopen(request, timeout=TIMEOUT)
  except urllib.error.HTTPError as e:
    if e.code == 416 and have:  # all of it is there, or the file has shrunk: the check says which
      return
    raise
  with answer:
    have = have if answer.status == 206 else 0
    length = int(answer.headers.get("Content-Length") or 0)
    tag = answer.headers.get("ETag") or answer.headers.get("Last-Modified") or ""
    if tag and not tag.startswith("W/"):
      version.write_text(tag)
    else:
      version.unlink(missing_ok=True)
    with partial.open("ab" if have else "wb") as file, progress(f"fetching {remote.name}", have + length, have) as bar:
      while chunk := answer.read(CHUNK):
        file.write(chunk)
        bar.advance(len(chunk))
        signals.check()
  if length and partial.stat().st_size < have + length:
    raise http.client.IncompleteRead(b"", have + length - partial.stat().st_size)
  version.unlink(missing_ok=True)
