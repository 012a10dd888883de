"""Several processes of the command line on this machine, started by flags or as Slurm does, for the tests."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]
SLURM_PORTS = range(2**16 - 2**12, 2**16)
PATIENCE = 1200  # seconds: each collective waits for all devices' threads, which a machine with other work runs in turn


def free_port(among: Sequence[int] = (0,)) -> int:
  for port in among:
    with contextlib.suppress(OSError), socket.socket() as found:
      found.bind(("127.0.0.1", port))
      return found.getsockname()[1]
  raise AssertionError("no port is free")


def of_slurm(job: int, count: int, number: int, nodes: str) -> dict[str, str]:
  """What srun tells a process; JAX takes the port of the first one from the job's number."""
  told = {"JOB_ID": job, "STEP_NODELIST": nodes, "NTASKS": count, "STEP_NUM_TASKS": count, "PROCID": number}
  return {f"SLURM_{name}": str(value) for name, value in {**told, "LOCALID": number}.items()}


def begin(
  count: int,
  devices: int | Sequence[int],
  *words: str,
  places: Sequence[Path] = (ROOT,),
  beside: Sequence[Sequence[str]] = ((),),
  slurm: bool = False,
) -> list[subprocess.Popen[str]]:
  """Starts a command in so many processes, in these folders in turn, with these words beside in turn.

  `slurm`: as its srun does, by their environment, on one node.
  """
  each = [devices] * count if isinstance(devices, int) else devices
  port = free_port(SLURM_PORTS if slurm else (0,))
  environment = os.environ | {
    "JAX_PLATFORMS": "cpu",
    "PYTHONPATH": str(ROOT),
  }

  def start(number: int) -> subprocess.Popen[str]:
    flags = count > 1 and not slurm
    address = ("--coordinator", f"127.0.0.1:{port}", "--processes", str(count), "--process", str(number))
    # As in meshes.py, most of the time is compiling.
    told = {"XLA_FLAGS": f"--xla_cpu_use_fusion_emitters=false --xla_force_host_platform_device_count={each[number]}"}
    return subprocess.Popen(
      [sys.executable, "-m", "fiat_jax", *[*words, *(address if flags else ()), *beside[number % len(beside)]]],
      cwd=places[number % len(places)],
      env=environment | told | (of_slurm(port - SLURM_PORTS[0], count, number, "127.0.0.1") if slurm else {}),
      stdout=subprocess.PIPE,
      stderr=subprocess.PIPE,
      text=True,
    )

  return [start(number) for number in range(count)]


def end(started: list[subprocess.Popen[str]], code: int = 0) -> list[tuple[str, str]]:
  """What each wrote to stdout and stderr, once all have ended with this exit code."""
  told = [process.communicate(timeout=PATIENCE) for process in started]
  assert [process.returncode for process in started] == [code] * len(started), told
  return told
