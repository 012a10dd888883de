"""Where models lie: T5X checkpoints and their vocabularies, beside them or named in gin."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import t5 as small
from t5x_folder import SPECS, t5x_arrays, write, write_form
from transformers import ByT5Tokenizer

from fiat_jax.checkpoints.locate import Checkpoint, locate, public_name
from fiat_jax.checkpoints.t5x import write_t5x
from fiat_jax.checkpoints.t5x_store import is_t5x
from fiat_jax.data.tokenizer import Tokenizer
from fiat_jax.errors import UserError
from fiat_jax.models.t5_registry import t5_config

ROOT = Path(__file__).parents[2]


@pytest.fixture
def t5x(tmp_path: Path) -> Path:
  """What is told from other folders by its name alone."""
  folder = tmp_path / "run" / "checkpoint_7"
  folder.mkdir(parents=True)
  (folder / "checkpoint").write_bytes(b"")
  return folder


@pytest.mark.parametrize("place", ["run", "run/checkpoint_7"])
@pytest.mark.parametrize("name", ["spiece.model", "sentencepiece.model"])
def test_a_vocabulary_is_found_in_the_folder_and_beside_it(t5x: Path, tmp_path: Path, place: str, name: str):
  small.write_vocabulary(tmp_path / "made")
  (tmp_path / "made" / "spiece.model").rename(tmp_path / place / name)
  found = locate(str(t5x))
  assert found.weights == str(t5x) and is_t5x(found.weights)
  tokenizer = Tokenizer.load(found.tokenizer)
  assert tokenizer.for_encoder and tokenizer.encode_prompt("red apple")[-1] == 1


def test_a_vocabulary_may_be_named_in_gin(t5x: Path, tmp_path: Path):
  small.write_vocabulary(tmp_path / "made")
  named = Checkpoint(sources=(f"folder:{t5x}",), vocabulary=str(tmp_path / "made" / "spiece.model"))
  assert Tokenizer.load(locate("mine", named).tokenizer).for_encoder
  with pytest.raises(UserError, match="no such vocabulary"):
    locate("mine", Checkpoint(sources=(f"folder:{t5x}",), vocabulary=str(tmp_path / "none.model")))


def test_byt5_s_vocabulary_is_known_by_its_embedding_or_named_in_gin(tmp_path: Path):
  found = {}
  for rows in (384, 320):
    config = t5_config(small.script().CASES["t5_1_1"] | {"vocab_size": rows}, "byt5", "float32")
    write_t5x(tmp_path / f"rows_{rows}", small.random_params(config), config)
    found[rows] = str(tmp_path / f"rows_{rows}")
  with pytest.raises(UserError, match=r"has no vocabulary: .* or 'bytes'\) and give"):
    locate(found[320])
  named = Checkpoint(sources=(f"folder:{found[320]}",), vocabulary="bytes")
  for place in (locate(found[384]), locate("mine", named)):
    tokenizer = Tokenizer.load(place.tokenizer)
    assert tokenizer.encode_prompt("né") == [113, 198, 172, 1] and tokenizer.for_encoder
    assert (tokenizer.vocab_size, tokenizer.decode([113, 198, 172])) == (384, "né")


def test_a_byt5_written_for_t5x_is_found_again_with_its_vocabulary(tmp_path: Path):
  config = t5_config(small.script().CASES["t5_1_1"] | {"vocab_size": 448}, "byt5", "float32")
  ByT5Tokenizer().save_pretrained(tmp_path / "came")
  (tmp_path / "came" / "config.json").write_text(json.dumps({"model_type": "t5"}))
  tokenizer = Tokenizer.load(tmp_path / "came")
  write_t5x(tmp_path / "went", small.random_params(config), config, tokenizer=tokenizer)
  again = Tokenizer.load(locate(str(tmp_path / "went")).tokenizer)
  assert again.fingerprint == tokenizer.fingerprint and again.for_encoder


def test_without_a_vocabulary_it_is_said_where_one_belongs(t5x: Path):
  with pytest.raises(UserError, match=r"checkpoint_7: .*has no vocabulary: put T5's SentencePiece file beside it"):
    locate(str(t5x))


BUCKET = """
import http.server, json, os, pathlib, sys, threading, urllib.parse

class Bucket(http.server.SimpleHTTPRequestHandler):
  def do_GET(self):
    _, bucket, name = urllib.parse.unquote(self.path.partition("?")[0]).partition("/storage/v1/b/bucket/o/")
    file = pathlib.Path(sys.argv[1]) / name
    found = bool(bucket) and file.is_file()
    body = file.read_bytes() if found else b"{}"
    begin, _, end = self.headers.get("Range", "bytes=0-").removeprefix("bytes=").partition("-")
    span = slice(int(begin), int(end) + 1 if end else len(body)).indices(len(body))
    part = found and "Range" in self.headers
    sent = [("Content-Range", f"bytes {span[0]}-{span[1] - 1}/{len(body)}")] if part else []
    body = body[slice(*span)] if part else body
    self.send_response(206 if part else 200 if found else 404)
    for name, value in (*sent, ("Content-Length", len(body)), ("x-goog-generation", 1)):
      self.send_header(name, str(value))
    self.end_headers()
    self.wfile.write(body)

server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Bucket)
threading.Thread(target=server.serve_forever, daemon=True).start()
os.environ |= {"TENSORSTORE_GCS_HTTP_URL": f"http://127.0.0.1:{server.server_port}"}
os.environ |= {"GOOGLE_AUTH_TOKEN_FOR_TESTING": "none"}
"""
LOCATED = """
from fiat_jax.checkpoints.locate import locate
from fiat_jax.data.tokenizer import Tokenizer
found = locate("gs://bucket/checkpoint_7")
print(json.dumps([found.weights, Tokenizer.load(found.tokenizer).vocab_size]))
"""
READ = """
import numpy as np
from fiat_jax.checkpoints.t5x_store import read_leaves
from fiat_jax.errors import UserError

def arrays(path):
  return {name: leaf.read(None, 0) for name, leaf in read_leaves(path).items()}

there, here = arrays("gs://bucket/mine/checkpoint_7"), arrays(sys.argv[1] + "/mine/checkpoint_7")
same = there.keys() == here.keys() and all(np.array_equal(there[name], here[name]) for name in here)
try:
  read_leaves("gs://no-such-bucket/checkpoint_7")
except UserError as e:
  print(json.dumps([same, len(here), str(e)]))
"""


def of_bucket(script: str, folder: Path) -> Any:
  """What a script prints that runs beside a server of this folder as a bucket, of Google's protocol."""
  run = subprocess.run([sys.executable, "-c", BUCKET + script, str(folder)], cwd=ROOT, capture_output=True, text=True)
  assert run.returncode == 0, run.stderr
  return json.loads(run.stdout)


def test_a_vocabulary_at_a_bucket_s_root_is_found(tmp_path: Path):
  small.write_vocabulary(tmp_path)
  assert of_bucket(LOCATED, tmp_path) == ["gs://bucket/checkpoint_7", Tokenizer.load(tmp_path).vocab_size]


@pytest.mark.slow
@pytest.mark.parametrize("form", ["gfile, absolute", "orbax", "ocdbt"])
def test_parameters_in_a_bucket_are_those_of_the_same_folder_on_a_disk(tmp_path: Path, form: str):
  arrays = t5x_arrays("t5_1_1")
  (tmp_path / "mine").mkdir()
  writes = write if form in SPECS else write_form
  writes(tmp_path / "mine" / "checkpoint_7", arrays, form)
  same, count, absent = of_bucket(READ, tmp_path)
  assert same and count == len(arrays) and "no such bucket, or a private one, looks the same" in absent


def test_a_missing_folder_and_an_unknown_place_are_told(tmp_path: Path):
  with pytest.raises(UserError, match=r"'mine' is not to be had: .*gone: no such folder"):
    locate("mine", Checkpoint(sources=(f"folder:{tmp_path}/gone",)))
  with pytest.raises(UserError, match="not from ftp://"):
    locate("ftp://host/folder")


@pytest.mark.parametrize(
  ("path", "name"),
  [
    (f"/home/me/hub/models--owner--my-model/snapshots/{'1a' * 20}", f"owner/my-model@{'1a' * 20}"),
    ("/home/me/models/mine", "mine"),
    ("gs://bucket/mine/checkpoint_7", "gs://bucket/mine/checkpoint_7"),
  ],
)
def test_a_model_is_named_by_what_was_read_with_the_hub_s_commit(path: str, name: str):
  assert public_name(path) == name


@pytest.mark.slow
def test_a_bucket_that_cannot_be_reached_is_given_up_soon():
  begun = time.monotonic()
  with pytest.raises(UserError, match=r"cannot be reached .*check the name, the network and the rights"):
    locate("gs://no-such-bucket-of-fiat/checkpoint_1")
  assert time.monotonic() - begun < 60


def test_a_hugging_face_folder_is_its_own_tokenizer_s(tmp_path: Path):
  (tmp_path / "config.json").write_text("{}")
  (tmp_path / "checkpoint").mkdir()
  assert locate(str(tmp_path)) == (str(tmp_path), tmp_path) and not is_t5x(str(tmp_path))


def test_a_hub_that_never_answers_is_given_up_soon_and_what_is_kept_of_it_is_taken(tmp_path: Path, monkeypatch):
  kept = tmp_path / "models--owner--name"
  (kept / "refs").mkdir(parents=True)
  (kept / "refs" / "main").write_text("a" * 40)
  monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
  monkeypatch.setattr("huggingface_hub.constants.HF_HUB_ETAG_TIMEOUT", 0.2)
  with socket.create_server(("127.0.0.1", 0)) as silent:
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", f"http://127.0.0.1:{silent.getsockname()[1]}")
    begun = time.monotonic()
    with pytest.raises(
      UserError, match=r"owner/name cannot be fetched from the Hub \(.*timed out.*\): check the network"
    ):
      locate("owner/name")
    snapshot = kept / "snapshots" / ("a" * 40)
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text("{}")
    assert locate("owner/name").weights == str(snapshot)
  assert time.monotonic() - begun < 10
