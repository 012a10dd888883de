"""Several processes at one command: how they find each other, stay in step, and what the first does for all.

All run the same program over the same rows, so that each takes every step that the others take. The first alone writes
what is shared, and says what is said.
"""

from __future__ import annotations

import atexit
import contextlib
import dataclasses
import hashlib
import json
import os
import pathlib
import re
import socket
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

from fiat_jax import meeting, progress, signals
from fiat_jax.errors import UserError

if TYPE_CHECKING:
  from fiat_jax.settings import Settings

AUTO = "auto"
LAUNCHED = ("SLURM_STEP_NUM_TASKS", "OMPI_COMM_WORLD_SIZE")  # how many Slurm's srun or Open MPI's mpirun started
SEEN_SECONDS = 20.0  # a network's file system may show a new file late
PAGE = 1024  # bytes: messages are filled up to a power of two of these, for each size is compiled once

SHUTDOWN_SECONDS = 60  # that the others wait at their end for one that failed
FAULT = "fiat/fault"  # where a process that ends alone leaves word
LOOK_SECONDS, BY_ITSELF_SECONDS = 0.5, 1.0  # between two looks there; in which a process ends of the same fault
NAMED = "--coordinator HOST:PORT, --processes N and --process I"


class Launch(NamedTuple):
  """Who the processes are: where they meet, how many they are, which this is, its devices (None: all it sees)."""

  coordinator: str
  processes: int
  process: int
  devices: Sequence[int] | None = None


_count, _number = 1, 0
_leaving = threading.Lock()  # held by the thread that ends this process


def count() -> int:
  """How many processes work together."""
  return _count


def first() -> bool:
  """Whether this is the one that writes what is shared."""
  return _number == 0


def join(settings: Settings) -> None:
  """Joins the others where there are any: those that flags name, or a launcher. Comes before all use of JAX's devices.

  Raises:
    UserError: flags that do not go together, or a process that did not come in time or has other settings, by number.
  """
  global _count, _number
  if _count > 1 or (known := _flags(settings) or _launched(settings)) is None or known.processes == 1:
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
  _count, _number = jax.process_count(), jax.process_index()
  progress.silence(progress.silent() or not first())
  _keep_stdout()
  listening = threading.Thread(target=_heed, daemon=True)
  listening.start()
  atexit.register(_part, listening)


def _keep_stdout() -> None:
  """Results alone go to stdout, the first process's: libraries write there of every connection."""
  sys.stdout.flush()
  sys.stdout = os.fdopen(os.dup(1), "w", encoding="utf-8") if first() else open(os.devnull, "w")  # noqa: SIM115
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
    _board().key_value_set(FAULT, json.dumps([code, f"process {_number} ({socket.gethostname()}): {fault}"]))
  if shown:
    print(shown, file=sys.stderr, flush=True)
  sys.stdout.flush()
  if first():  # which keeps the place where the others hear it
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


def _flags(settings: Settings) -> Launch | None:
  """What flags say of the processes; None where they leave it to a launcher."""
  s = settings
  if s.coordinator == AUTO or not (s.coordinator or s.processes or s.process >= 0):
    return None
  if not s.coordinator or s.processes < 1 or s.process < 0:
    raise UserError(
      "--coordinator HOST:PORT, --processes N and --process I (0 to N - 1) go together: give all three to each process"
    )
  if s.process >= s.processes:
    raise UserError(f"--process {s.process} of --processes {s.processes}: they are counted from 0")
  found = re.fullmatch(r".+:(\d{1,5})", s.coordinator)
  if not found or not 0 < int(found[1]) < 2**16:
    raise UserError(f"--coordinator {s.coordinator}: give HOST:PORT of process 0, any free port there, or auto")
  return Launch(s.coordinator, s.processes, s.process)


def _launched(settings: Settings) -> Launch | None:
  """What a launcher that started several of us says of them, as far as JAX knows how to ask it."""
  several = any(int(os.environ.get(name) or 1) > 1 for name in LAUNCHED)
  if not (several or settings.coordinator == AUTO or "," in os.environ.get("TPU_WORKER_HOSTNAMES", "")):
    return None
  from jax._src.clusters import ClusterEnv  # what `jax.distributed.initialize()` asks

  try:
    place, count_, number, devices = ClusterEnv.auto_detect_unset_distributed_params(
      None, None, None, None, None, settings.join_seconds
    )
  except Exception as e:  # of many kinds, by launcher
    raise UserError(f"the launcher does not say where the processes meet ({e}): give {NAMED}") from None
  if place is None or count_ is None or number is None:
    raise UserError(f"--coordinator auto: no launcher is known here (Slurm, Open MPI, a TPU pod): give {NAMED}")
  return Launch(place, count_, number, devices)


def check_alone(settings: Settings, what: str) -> None:
  """Raises UserError where flags or a launcher say that there are several processes; they do not meet."""
  known = _flags(settings) or _launched(settings)
  if known is not None and known.processes > 1:
    raise UserError(f"{what} is the work of one process, over all devices that it sees: this is one of several")


def of_first(value: Any) -> Any:
  """A value, such as JSON holds, as the first process has it; what others give does not count."""
  if _count == 1:
    return value
  import numpy as np
  from jax.experimental import multihost_utils

  sent = json.dumps(value).encode() if first() else b""
  length = int(multihost_utils.broadcast_one_to_all(np.int32(len(sent))))
  room = max(PAGE, 1 << (length - 1).bit_length())
  message = np.zeros(room, np.uint8)
  message[: len(sent)] = np.frombuffer(sent, np.uint8)
  return json.loads(np.asarray(multihost_utils.broadcast_one_to_all(message))[:length].tobytes())


def of_each(text: str) -> list[str]:
  """What each process has to say, in up to `PAGE` bytes, by its number."""
  if _count == 1:
    return [text]
  import numpy as np
  from jax.experimental import multihost_utils

  message = np.zeros(PAGE, np.uint8)
  sent = text.encode()[:PAGE]
  message[: len(sent)] = np.frombuffer(sent, np.uint8)
  gathered = np.asarray(multihost_utils.process_allgather(message))
  return [row.tobytes().rstrip(b"\0").decode(errors="replace") for row in gathered]


def by_first(action: Callable[[], Any]) -> Any:
  """Does something in the first process alone; what it gives, as JSON keeps it, is given to all.

  Raises:
    UserError: what the action raised, in all of them.
  """
  if _count == 1:
    return action()
  outcome: dict[str, Any] = {}
  try:
    outcome = {"value": action() if first() else None}
  except UserError as e:
    outcome = {"fault": str(e)}
  except BaseException:
    of_first({"fault": "the first process failed; what it says says why"})
    raise
  outcome = of_first(outcome)
  if "fault" in outcome:
    raise UserError(outcome["fault"])
  return outcome["value"]


@contextlib.contextmanager
def led() -> Iterator[None]:
  """Around what the first process does while the others ask `of_first` what comes next: at its end they get None."""
  try:
    yield
  except signals.Stopped:  # they have heard it too
    raise
  except BaseException:
    of_first(None)
    raise
  of_first(None)


def wait() -> None:
  """Until all have come here: what the first wrote before is there for all after it."""
  of_each("")


def check_signals() -> None:
  """As `signals.check`, where a signal to any process stops all of them at the same step."""
  if _count == 1:
    signals.check()
    return
  heard = max(int(number) for number in of_each(str(signals.received())))
  if heard:
    raise signals.Stopped(heard)


def check_same(what: str, text: str) -> None:
  """Refuses processes that were not told the same.

  Raises:
    UserError: some were told something else than the first, by number and host.
  """
  told = of_each(hashlib.sha256(text.encode()).hexdigest())
  if others := [number for number, digest in enumerate(told) if digest != told[0]]:
    raise UserError(f"{what} of process {_named(others)} are not those of process 0: give the same to all")


def check_shared(folder: pathlib.Path) -> None:
  """Refuses a folder that is not the same one for all processes, which exists for the first, by a file
  that the first writes there for a moment.

  Raises:
    UserError: some process does not see it.
  """
  if _count == 1:
    return
  token = folder / f".seen_by_all_{of_first(uuid.uuid4().hex)}"
  by_first(token.touch)
  until = time.monotonic() + SEEN_SECONDS
  while not (seen := token.exists()) and time.monotonic() < until:
    time.sleep(0.2)
    with contextlib.suppress(OSError):
      os.listdir(folder)  # a network's file system looks again
  blind = [number for number, saw in enumerate(of_each(str(seen))) if saw != "True"]
  by_first(lambda: token.unlink(missing_ok=True))
  if blind:
    raise UserError(
      f"process {_named(blind)} does not see what process 0 writes there: give a --model_dir that all hosts share",
      folder,
    )


def _named(numbers: Sequence[int]) -> str:
  hosts = of_each(socket.gethostname())
  return ", ".join(f"{number} ({hosts[number]})" for number in numbers)
