"""A cloud of one folder for the tests of launch/: stands on PATH as `gcloud`, `srun`, `ssh` and as fiat itself.

Every call is a line of JSON in `calls`. A bucket is a folder, a worker another; what is to be run on a worker is run
there.
"""

import json
import os
import pathlib
import shutil
import subprocess
import sys

CLOUD = pathlib.Path(os.environ["FAKE_CLOUD"])


def main(name: str, words: list[str]) -> int:
  with open(CLOUD / "calls", "a") as file:
    file.write(json.dumps([name, *words]) + "\n")
  return {"gcloud": gcloud, "fiat": fiat, "srun": lambda words: 0, "ssh": ssh}[name](words)


def gcloud(words: list[str]) -> int:
  if words[0] == "storage":
    return storage(words[1:])
  if words[:2] == ["config", "get-value"]:
    print("a-project")
  if words[:2] == ["compute", "tpus"]:
    if unreachable():
      print(
        "ERROR: gcloud crashed (ServerNotFoundError): Unable to find the server at tpu.googleapis.com", file=sys.stderr
      )
      return 1
    return {"queued-resources": queued, "tpu-vm": worker}.get(words[2], lambda words: 0)(words[3:])
  return 0


def unreachable() -> bool:
  """Whether the network is gone, for as many calls as `unreachable` says."""
  file = CLOUD / "unreachable"
  left = int(file.read_text()) if file.exists() else 0
  if left:
    file.write_text(str(left - 1))
  return left > 0


def storage(words: list[str]) -> int:
  local = lambda word: CLOUD / "buckets" / word[5:] if word.startswith("gs://") else pathlib.Path(word)  # noqa: E731
  if any(word.startswith("gs://locked") for word in words):
    print("ERROR: (gcloud.storage.cp) HTTPError 403: no storage.objects.create access", file=sys.stderr)
    return 1
  if words[0] == "ls":
    return 0 if local(words[1]).exists() else 1
  if words[0] in ("cp", "rsync"):
    source, to = (word for word in words[1:] if not word.startswith("--"))
    local(to).parent.mkdir(parents=True, exist_ok=True)
    if words[0] == "rsync":
      newer = newer_only if "--skip-if-dest-has-newer-mtime" in words else shutil.copy2
      shutil.copytree(local(source), local(to), dirs_exist_ok=True, copy_function=newer)
    elif "--recursive" in words:
      shutil.copy(local(source), local(to))  # a file, into a folder
    else:
      local(to).write_bytes(sys.stdin.buffer.read() if source == "-" else local(source).read_bytes())
  return 0


def newer_only(source: str, to: str) -> None:
  if not os.path.exists(to) or os.path.getmtime(to) <= os.path.getmtime(source):
    shutil.copy2(source, to)


def queued(words: list[str]) -> int:
  states = CLOUD / "states"  # the one that is, and those that come
  if words[0] == "create":
    states.write_text((CLOUD / "grants").read_text())
  elif not states.exists():
    print("ERROR: (gcloud) NOT_FOUND: Resource was not found.", file=sys.stderr)
    return 1
  elif words[0] == "delete":
    if (CLOUD / "refuses").exists():
      refused = int((CLOUD / "refuses").read_text())
      (CLOUD / "refuses").write_text(str(refused - 1))
      if refused > 0:
        print("ERROR: (gcloud) PERMISSION_DENIED", file=sys.stderr)
        return 1
    states.unlink()
  else:
    now, *others = states.read_text().split()
    states.write_text("\n".join(others or [now]))
    print(now)
  return 0


def worker(words: list[str]) -> int:
  """Runs the command with the worker's folder as its home; while `preempts` is there, the first look ends all."""
  command = words[words.index("--command") + 1]
  if (CLOUD / "preempts").exists() and "tail" in command:
    (CLOUD / "preempts").unlink()
    (CLOUD / "states").write_text("SUSPENDED")
  if (CLOUD / "loses").exists() and "tail" in command:
    (CLOUD / "loses").rename(CLOUD / "unreachable")
    return 255
  if (CLOUD / "states").read_text().split()[0] != "ACTIVE":
    return 255
  home = CLOUD / "worker"
  checks = ["-n"] if "gcsfuse" in command else []  # setting up is read, not done
  (home / "fiat/.venv/bin").mkdir(parents=True, exist_ok=True)
  if not (home / "fiat/.venv/bin/fiat").exists():  # it may be running while the log is followed
    shutil.copy(CLOUD / "bin/fiat", home / "fiat/.venv/bin/fiat")
  if not (home / "bucket").exists():
    (home / "bucket").symlink_to(CLOUD / "buckets/mine/fiat")
  if "gcsfuse" in command and "FAKE_SETUP_EXIT" in os.environ:
    return int(os.environ["FAKE_SETUP_EXIT"])
  return subprocess.run(["bash", *checks, "-c", command], env=os.environ | {"HOME": str(home)}).returncode


def fiat(words: list[str]) -> int:
  """A run that leaves its words in its folder and says so; or a big model's answer more in a store that is there."""
  if "--output" in words:
    output = pathlib.Path(words[words.index("--output") + 1])
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text("answers")
  if words[0] == "annotate" and words[words.index("--store") + 1].startswith("../bucket"):
    with open(pathlib.Path(words[words.index("--store") + 1]) / "answers-0.jsonl", "a") as store:
      store.write("bought\n")
  if "--model_dir" in words and "--dry_run" not in words:
    folder = pathlib.Path(words[words.index("--model_dir") + 1])
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "results.json").write_text(json.dumps([os.environ.get("TPU_VISIBLE_CHIPS", ""), *words]))
  print("trained")
  return int(os.environ.get("FAKE_EXIT", "0"))


def ssh(words: list[str]) -> int:
  return int(os.environ.get("FAKE_EXIT", "0")) if "--process 1" in words[-1] else 0


if __name__ == "__main__":
  sys.exit(main(pathlib.Path(sys.argv[1]).name, sys.argv[2:]))
