"""Where several processes meet before JAX joins them: whoever does not come is known by number.

JAX itself ends a process that waited too long, and does not say for whom.
"""

from __future__ import annotations

import contextlib
import json
import socket
import time

from fiat_jax.errors import UserError

RETRY_SECONDS = 0.2
HELLO_SECONDS = 5.0  # in which a connection has to say who it is
GRACE_SECONDS = 10.0  # the first may have begun to wait so much later


def meet(address: str, count: int, number: int, seconds: float, settings: str) -> None:
  """Returns once all processes have come to HOST:PORT, where the first of them listens.

  Args:
    settings: a digest of what has to be the same for all.

  Raises:
    UserError: some did not come in time or have other settings, two have the same number, or the first is not to be
      found.
  """
  host, _, port = address.rpartition(":")
  if number:
    fault = _report(host.strip("[]"), int(port), count, number, seconds, settings)
  else:
    fault = _receive(address, int(port), count, seconds, settings)
  if fault:
    raise UserError(fault)


def _receive(address: str, port: int, count: int, seconds: float, settings: str) -> str:
  """What is wrong, for all that came; empty where nothing is."""
  until, came, fault, differing = time.monotonic() + seconds, dict[int, str](), "", list[int]()
  with contextlib.ExitStack() as held:
    try:
      server = held.enter_context(socket.create_server(("", port)))
    except OSError as e:
      return f"--coordinator {address}: process 0 cannot listen there ({e.strerror}): give a free port of its host"
    callers: list[socket.socket] = []
    while len(came) < count - 1 and not fault and (left := until - time.monotonic()) > 0:
      server.settimeout(left)
      # whoever does not speak our language is no process of ours
      with contextlib.suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
        caller = held.enter_context(server.accept()[0])
        caller.settimeout(HELLO_SECONDS)
        hello = json.loads(caller.makefile("r", encoding="utf-8").readline())
        fault = _clash(hello["number"], hello["count"], hello["host"], count, came)
        came[hello["number"]] = hello["host"]
        if hello.get("settings") != settings:
          differing.append(hello["number"])
        callers.append(caller)
    if not fault and len(came) < count - 1:
      missing = ", ".join(str(n) for n in range(1, count) if n not in came)
      fault = (
        f"of {count} processes, these did not join within {seconds:g} s: {missing}. See that each runs the "
        f"same command with its own --process and reaches {address}, or give a longer --join_seconds"
      )
    if not fault and differing:
      named = ", ".join(f"{n} ({came[n]})" for n in sorted(differing))
      fault = f"the settings of process {named} are not those of process 0: start all with the same command"
    for caller in callers:
      with contextlib.suppress(OSError):
        caller.sendall(json.dumps({"fault": fault}).encode() + b"\n")
  return fault


def _clash(number: int, its_count: int, host: str, count: int, came: dict[int, str]) -> str:
  if its_count != count:
    return f"process 0 was given --processes {count}, process {number} ({host}) {its_count}: give all the same"
  if number in came:
    return f"two processes have --process {number} ({came[number]} and {host}): give each its own"
  return ""


def _report(host: str, port: int, count: int, number: int, seconds: float, settings: str) -> str:
  """What the first process says is wrong."""
  until = time.monotonic() + seconds
  said = {"number": number, "count": count, "host": socket.gethostname(), "settings": settings}
  hello = json.dumps(said).encode() + b"\n"
  while (left := until - time.monotonic()) > 0:
    try:
      with socket.create_connection((host, port), timeout=left) as call:
        call.settimeout(seconds + GRACE_SECONDS)
        call.sendall(hello)
        return json.loads(call.makefile("r", encoding="utf-8").readline())["fault"]
    except (OSError, ValueError):
      time.sleep(RETRY_SECONDS)
  return (
    f"process {number} did not find process 0 at {host}:{port} within {seconds:g} s: see that it runs there and "
    "that the port is open, or give a longer --join_seconds"
  )
