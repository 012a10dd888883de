"""The serving image: hadolint finds nothing in its Dockerfile, and what that copies is there."""

import pathlib
import re
import subprocess
import sys

DOCKERFILE = pathlib.Path(__file__).parents[1] / "launch" / "Dockerfile"


def test_hadolint_has_nothing_to_say():
  command = [str(pathlib.Path(sys.executable).parent / "hadolint"), "--no-color", str(DOCKERFILE)]
  found = subprocess.run(command, capture_output=True, text=True)
  assert found.returncode == 0, found.stdout + found.stderr


def test_what_it_copies_and_calls_is_there():
  text, root = DOCKERFILE.read_text(), DOCKERFILE.parents[1]
  copied = [word for line in re.findall(r"^COPY (.*) \S+$", text, flags=re.M) for word in line.split()]
  assert copied and all((root / word).exists() for word in copied)
  assert 'ENTRYPOINT ["fiat", "serve", "--host", "0.0.0.0"' in text
  assert re.search(r"^USER 1000$", text, flags=re.M), "the server is not root"
