"""Programs that a model wrote: run only where they can do no harm, scored as INSTRUCTEVAL scores HumanEval."""

from __future__ import annotations

import json
import os
import pathlib
import time

import pytest

from fiat_jax.errors import UserError
from fiat_jax.evaluation import code, confined, metrics, sandbox
from fiat_jax.resources import shipped

SAMPLE = shipped("tasks") / "humaneval" / "sample" / "HumanEval.jsonl"


@pytest.fixture
def short(monkeypatch):
  """Programs that go on are ended soon."""
  monkeypatch.setattr(sandbox, "SECONDS", 1)
  monkeypatch.setattr(sandbox, "CLOCK", 1.5)
  sandbox.passes.cache_clear()


def test_a_program_that_comes_to_its_end_passes(short):
  assert sandbox.passes(
    "import collections, hashlib, math, random, re, typing\nassert math.sqrt(4) == 2\nprint('well')"
  )
  assert not sandbox.passes("assert 1 == 2") and not sandbox.passes("def f(:")


HOSTILE = {
  "loops": "while True: pass",
  "waits": "import time\ntime.sleep(60)",
  "recurs": "def f(): return f()\nf()",
  "forks": "import os\nos.fork()",
  "forks and minds no fault": "import os\ntry:\n  os.fork()\nexcept OSError: pass",
  "starts a program": "import subprocess\nsubprocess.run(['true'])",
  "starts a thread": "import threading\nthreading.Thread(target=print).start()",
  "opens a socket": "import socket\nsocket.create_connection(('127.0.0.1', 9))",
  "eats memory": "texts = []\nwhile True: texts.append(' ' * 10**7)",
  "writes outside": "open('{folder}/evil', 'w').write('x')",
  "writes where it is": "open('evil', 'w').write('x')",
  "adds to a file": "open('{folder}/kept', 'a').write('x')",
  "removes a file": "import os\nos.remove('{folder}/kept')",
  "renames a file": "import os\nos.rename('{folder}/kept', '{folder}/evil')",
  "changes rights": "import os\nos.chmod('{folder}/kept', 0)",
  "ends its parent": "import os, signal\nos.kill(os.getppid(), signal.SIGKILL)",
  "has the kernel signal its parent": (
    "import fcntl, os, signal\nread, write = os.pipe()\nfcntl.fcntl(read, fcntl.F_SETOWN, os.getppid())\n"
    "fcntl.fcntl(read, 10, signal.SIGKILL)\nfcntl.fcntl(read, fcntl.F_SETFL, os.O_ASYNC)\nos.write(write, b'x')"
  ),
  "types into a terminal": "import fcntl\nfcntl.ioctl(0, 0x5412, b'x')",
  "raises its limits": "import resource\nresource.setrlimit(resource.RLIMIT_CPU, (99, 99))",
  "floods its output": "import os\nwhile True: os.write(3, b'x' * 9999)",
  "crashes": "import ctypes\nctypes.string_at(0)",
  "ends early with success": "import os\nos._exit(0)",
  "ends early": "raise SystemExit(0)",
}


@pytest.mark.parametrize("does", HOSTILE)
def test_a_program_that_would_do_harm_is_marked_failed_and_nothing_is_changed(does, short, tmp_path):
  (tmp_path / "kept").write_text("mine")
  began = time.monotonic()
  assert not sandbox.passes(HOSTILE[does].replace("{folder}", str(tmp_path)))
  assert time.monotonic() - began < 60
  assert [path.name for path in tmp_path.iterdir()] == ["kept"] and (tmp_path / "kept").read_text() == "mine"
  assert os.access(tmp_path / "kept", os.R_OK) and sandbox.passes("pass")


def test_where_nothing_can_be_confined_nothing_is_run(short, monkeypatch, tmp_path):
  script = tmp_path / "elsewhere.py"
  source = pathlib.Path(confined.__file__).read_text()
  script.write_text(source.replace('"x86_64": {', '"other": {').replace('"aarch64": {', '"another": {'))
  monkeypatch.setattr(sandbox.confined, "__file__", str(script))
  with pytest.raises(UserError, match="cannot be confined on this system, and is not run"):
    sandbox.passes("pass")


def test_metrics_that_run_code_must_be_allowed():
  with pytest.raises(UserError, match=r"'pass_at_1' runs code that the model wrote.*--allow_code_execution"):
    metrics.check(("pass_at_1",))
  metrics.check(("pass_at_1",), code=True)


def test_predict_runs_no_code_that_nobody_allowed(tmp_path, monkeypatch, capsys):
  from fiat_jax import cli

  monkeypatch.chdir(tmp_path)
  (tmp_path / "rows.jsonl").write_text(json.dumps({"input": "a", "target": "print()"}))
  words = ["--test", "rows.jsonl", "--output", "answers.jsonl", "--metrics", "pass_at_1"]
  assert cli.main(["predict", *words, "--recipes", "untuned_without_reasoning"]) == 2
  assert "'pass_at_1' runs code that the model wrote" in capsys.readouterr().err


def test_an_answer_is_its_first_function_with_even_indents():
  assert code.completion("\n   return 1\n\ndef other():\n    pass") == "    return 1"
  assert code.completion("    x = 1\n    return x\n") == "    x = 1\n    return x\n"


def test_the_samples_own_solutions_pass_and_other_answers_do_not():
  for line in SAMPLE.read_text().splitlines():
    problem = json.loads(line)
    tests = f"{problem['test']}\ncheck({problem['entry_point']})\n"
    target = problem["prompt"] + code.COMPLETION + tests
    solution = problem["canonical_solution"]
    assert code.pass_at_1(solution, target) == code.pass_at_1(solution[1:] + "\n\nprint(1 / 0)", target) == 100
    assert code.pass_at_1("    return None", target) == code.pass_at_1("", target) == 0
