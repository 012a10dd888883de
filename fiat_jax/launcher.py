"""Who the processes of one command are: what flags say of them, or the launcher that started them."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from fiat_jax.errors import UserError

if TYPE_CHECKING:
  from fiat_jax.settings import Settings

AUTO = "auto"
LAUNCHED = ("SLURM_STEP_NUM_TASKS", "OMPI_COMM_WORLD_SIZE")  # how many Slurm's srun or Open MPI's mpirun started
NAMED = "--coordinator HOST:PORT, --processes N and --process I"


class Launch(NamedTuple):
  """Who the processes are: where they meet, how many they are, which this is, its devices (None: all it sees)."""

  coordinator: str
  processes: int
  process: int
  devices: Sequence[int] | None = None


def launch_of(settings: Settings) -> Launch | None:
  """Who the processes are, as flags say it or else a launcher; None where this is the only one.

  Raises:
    UserError: flags that do not go together, or a launcher that does not say where the processes meet.
  """
  known = _flags(settings) or _by_launcher(settings)
  return None if known is None or known.processes == 1 else known


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


def _by_launcher(settings: Settings) -> Launch | None:
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
  if launch_of(settings):
    raise UserError(f"{what} is the work of one process, over all devices that it sees: this is one of several")
