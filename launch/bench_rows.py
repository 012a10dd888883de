"""How long a very large set of rows takes to become shards, stopped in the middle, and to start from them.

`python launch/bench_rows.py --rows 1300000 --objective chat --folder /tmp/many` writes so many short rows, tokenises
them with `fiat train` until 40 % are done, kills every process of it (SIGKILL), goes on, and starts once more. Printed
are seconds to the first training step, processor seconds, and the most memory that the command and a child of it had.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import random
import resource
import shutil
import signal
import subprocess
import sys
import time

WORDS = ("river", "lake", "mountain", "bread", "window", "garden", "winter", "letter", "copper", "music", "engine")
ROOT = pathlib.Path(__file__).parents[1]


def write(file: pathlib.Path, count: int) -> None:
  draw = random.Random(0)
  with file.open("w") as out:
    for number in range(count):
      asked = f"Say something about {' and '.join(draw.choices(WORDS, k=draw.randint(1, 20)))}, number {number}."
      turns = [{"role": "user", "content": asked}, {"role": "assistant", "content": " ".join(draw.choices(WORDS, k=8))}]
      out.write(json.dumps({"id": str(number), "messages": turns}) + "\n")


def command(folder: pathlib.Path, objective: str, run: str) -> list[str]:
  words = ["--train", str(folder / "rows.jsonl"), "--validation", str(folder / "few.jsonl"), "--objective", objective]
  words += [
    "--recipes",
    "fine_tuning",
    "--steps",
    "1",
    "--batch",
    "8",
    "--source_length",
    "128",
    "--target_length",
    "64",
  ]
  return [sys.executable, "-m", "fiat_jax", "train", *words, "--model_dir", str(folder / run)]


def watch(words: list[str], folder: pathlib.Path, run: str, kill_at: int) -> dict[str, float]:
  """Runs the command; where `kill_at` is not 0, kills it once so many rows were written down as done."""
  shutil.rmtree(folder / run, ignore_errors=True)
  began, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
  log = (folder / f"{run}.log").open("w")
  child = subprocess.Popen(words, cwd=ROOT, stdout=log, stderr=log, start_new_session=True)
  step, done, memory = 0.0, 0, {"command": 0, "child": 0}
  while child.poll() is None:
    time.sleep(0.2)
    for process in _session(child.pid):
      which = "command" if process == child.pid else "child"
      memory[which] = max(memory[which], _resident(process))
    done = max([done, *(json.loads(f.read_text())["rows"] for f in _progress(folder))])
    if not step and (folder / run / "metrics.jsonl").exists():
      step = time.monotonic() - began
    if kill_at and done >= kill_at:
      os.killpg(child.pid, signal.SIGKILL)
  after = resource.getrusage(resource.RUSAGE_CHILDREN)
  used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
  found = {"exit": child.wait(), "seconds": time.monotonic() - began, "to_first_step": step, "processor_seconds": used}
  return found | {"done": done, **{f"{which}_mib": size / 2**20 for which, size in memory.items()}}


def _progress(folder: pathlib.Path) -> list[pathlib.Path]:
  return list((folder / "cache" / "rows").glob("*.making/progress.json"))


def _session(leader: int) -> list[int]:
  found = []
  for entry in pathlib.Path("/proc").iterdir():
    if entry.name.isdigit():
      try:
        if os.getsid(int(entry.name)) == leader:
          found.append(int(entry.name))
      except OSError:
        continue
  return found


def _resident(process: int) -> int:
  try:
    text = pathlib.Path(f"/proc/{process}/statm").read_text()
  except OSError:
    return 0
  return int(text.split()[1]) * resource.getpagesize()


def main() -> None:
  asked = argparse.ArgumentParser(description=__doc__)
  asked.add_argument("--rows", type=int, default=1_300_000)
  asked.add_argument("--objective", choices=("chat", "answer"), default="chat")
  asked.add_argument("--folder", type=pathlib.Path, required=True)
  given = asked.parse_args()
  given.folder.mkdir(parents=True, exist_ok=True)
  os.environ["FIAT_CACHE"] = str(given.folder / "cache")
  write(given.folder / "few.jsonl", 8)
  write(given.folder / "rows.jsonl", given.rows)
  for run, kill_at in (("stopped", int(0.4 * given.rows)), ("goes_on", 0), ("again", 0)):
    found = watch(command(given.folder, given.objective, run), given.folder, run, kill_at)
    print(run, json.dumps({name: round(value, 1) for name, value in found.items()}), flush=True)


if __name__ == "__main__":
  main()
