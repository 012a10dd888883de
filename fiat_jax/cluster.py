"""Joining the other processes of a command, and leaving them: where one fails, all end, and one says why."""

from __future__ import annotations

import atexit
import contextlib
import dataclasses
import hashlib
import json
import os
import socket
import sys
import threading
import time
from typing import TYPE_CHECKING, Any, NoReturn

from fiat_jax import launcher, meeting, processes, progress

if TYPE_CHECKING:
  from fiat_jax.settings import Settings

SHUTDOWN_SECONDS = 60  # that the others wait at their end for one that failed
FAULT = "fiat/fault"  # where a process that ends alone leaves word
LOOK_SECONDS, BY_ITSELF_SECONDS = 0.5, 1.0  # between two looks there; in which a process ends of the same fault

_leaving = threading.Lock()  # held by the thread that ends this process


def join(settings: Settings) -> None:
  """Joins the others where there are any: those that flags name, or a launcher. Comes before all use of JAX's devices.

  Raises:
    UserError: flags that do not go together, or a process that did not come in time or has other settings, by number.
  """
  if processes.count() > 1 or (known := launcher.launch_of(settings)) is None:
    return
  import jax

  digest = hashlib.sha256(repr(dataclasses.replace(settings, process=-1)).encode()).hexdigest()
  meeting.meet(known.coordinator, known.processes, known.process, settings.join_seconds, digest)
  jax.config.update("jax_enable_preemption_service", False)  # it would take SIGTERM from `signals`
  jax.config.update("jax_cpu_collectives_implementation", "gloo")
  jax.distributed.initialize(
    *known,
    initialization_timeout=settings.join_seconds,
    shutdown_timeout_seconds=SHUTDOWN_SECONDS,
  )
  processes.become(jax.process_index(), jax.process_count())
  progress.silence(progress.silent() or not processes.first())
  _keep_stdout()
  listening = threading.Thread(target=_heed, daemon=True)
  listening.start()
  atexit.register(_part, listening)


def _keep_stdout() -> None:
  """Results alone go to stdout, the first process's: libraries write there of every connection."""
  sys.stdout.flush()
  to = os.dup(1) if processes.first() else os.open(os.devnull, os.O_WRONLY)
  sys.stdout = os.fdopen(to, "w", encoding="utf-8")
  with open(os.devnull, "wb") as nowhere:
    os.dup2(nowhere.fileno(), 1)


def leave(code: int, fault: str, shown: str) -> NoReturn:
  """Ends this process, one of several, and writes `shown` to stderr; the others, who may wait for it, hear and end too.

  Where another told of a fault first, and what fails here (code 1) may come of that, that one is shown.
  """
  if code == 1 and (heard := _heard()):
    code, fault, shown = *heard, f"error: {heard[1]}"
  if not _leaving.acquire(blocking=False):
    threading.Event().wait()  # the other thread is at it
  with contextlib.suppress(Exception):  # another was first to say so, or there is nobody to tell
    told = f"process {processes.number()} ({socket.gethostname()}): {fault}"
    _board().key_value_set(FAULT, json.dumps([code, told]))
  if shown:
    print(shown, file=sys.stderr, flush=True)
  sys.stdout.flush()
  if processes.first():  # which keeps the place where the others hear it
    time.sleep(2 * (LOOK_SECONDS + BY_ITSELF_SECONDS))
  os._exit(code)


def _heed() -> None:
  """Ends this process once another one has failed: JAX would let it wait a minute, and then abort."""
  while _board() is not None and not _leaving.locked():
    if heard := _heard():
      time.sleep(BY_ITSELF_SECONDS)
      leave(*heard, f"error: {heard[1]}")
    time.sleep(LOOK_SECONDS)


def _part(listening: threading.Thread) -> None:
  """Waits for the others at the end, still listening: Python aborts where it ends with a thread within JAX's client."""
  import jax

  jax.distributed.shutdown()
  listening.join()


def _heard() -> tuple[int, str] | None:
  """The exit code and the fault of the process that failed first; None where none did."""
  try:
    code, fault = json.loads(_board().key_value_try_get(FAULT))
  except Exception:  # nothing stands there
    return None
  return code, fault


def _board() -> Any:
  """Where processes leave short texts for each other, whatever else they wait for."""
  from jax._src import distributed  # there is no public way to it

  return distributed.global_state.client
