"""A T5X folder that is not whole: which leaves, how many, what was expected, and never another model in its place."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import msgpack
import numpy as np
import pytest
import t5 as small
from commands import SPLITS, write_questions
from t5x_folder import t5x_arrays, write

from fiat_jax import cli
from fiat_jax.checkpoints.t5x import T5XCheckpoint, write_t5x
from fiat_jax.checkpoints.t5x_config import EMBEDDING, expected
from fiat_jax.errors import UserError
from fiat_jax.models import catalogue, published
from fiat_jax.models.family import module_for
from fiat_jax.models.pretrained import Description
from fiat_jax.models.t5 import T5Config
from fiat_jax.models.t5_registry import t5_config

Arrays = dict[str, np.ndarray]


def fault(folder: Path, change: Callable[[Arrays], object], case: str = "t5_1_1") -> str:
  """What is said of a case's folder after a change to its arrays."""
  arrays = t5x_arrays(case)
  change(arrays)
  with pytest.raises(UserError) as raised:
    T5XCheckpoint(write(folder / "c", arrays))
  return str(raised.value)


def without(*beginnings: str) -> Callable[[Arrays], object]:
  return lambda arrays: [arrays.pop(name) for name in list(arrays) if name.startswith(beginnings)]


@pytest.mark.parametrize(
  ("lost", "said"),
  [
    ("decoder/logits_dense/kernel", "decoder/logits_dense/kernel is missing, [32, 103] expected"),
    ("encoder/layers_0/mlp/wi_0/kernel", "encoder/layers_0/mlp/wi_0/kernel is missing, [32, 40] expected"),
    ("encoder/layers_0/attention/query/kernel", "attention/query/kernel is missing, [32, 24] expected"),
    ("encoder/relpos_bias/rel_embedding", "encoder/relpos_bias/rel_embedding is missing, [3, 32] expected"),
    ("token_embedder/embedding", "token_embedder/embedding is missing, [103, 32] expected"),
  ],
)
def test_a_missing_leaf_is_the_only_one_that_is_named(tmp_path, lost, said):
  told = fault(tmp_path, without(lost))
  assert told.endswith(said) and "1 missing, 0 of another shape, 0 too many" in told
  assert "gated and untied, of 3 encoder and 2 decoder layers, width 32, FFN 40" in told


def test_an_embedding_without_a_head_beside_it_is_expected_with_what_is_known(tmp_path):
  told = fault(tmp_path, without("token_embedder/embedding"), "t5_1_0")
  assert told.endswith("token_embedder/embedding is missing: [vocabulary, 32] is expected")


def test_a_layer_that_is_missing_whole_is_named_once(tmp_path):
  told = fault(tmp_path, without("encoder/layers_1/"))
  assert told.endswith(
    "leaves 9 missing, 0 of another shape, 0 too many: encoder/layers_1 is missing with all its 9 leaves"
  )


@pytest.mark.parametrize("case", small.CASES)
def test_a_transposed_embedding_is_blamed_alone(tmp_path, case):
  turn = lambda arrays: arrays.update({EMBEDDING: arrays[EMBEDDING].T})  # noqa: E731
  told, rows = fault(tmp_path, turn, case), len(t5x_arrays(case)[EMBEDDING])
  assert told.endswith(f"0 missing, 1 of another shape, 0 too many: {EMBEDDING} is [32, {rows}], not [{rows}, 32]")


def test_of_two_stacks_biases_the_one_that_is_turned_is_blamed(tmp_path):
  name = "encoder/relpos_bias/rel_embedding"
  told = fault(tmp_path, lambda arrays: arrays.update({name: arrays[name].T}))
  assert told.endswith(f"1 of another shape, 0 too many: {name} is [32, 3], not [3, 32]")


def test_a_gated_t5_with_a_tied_head_is_not_written(tmp_path):
  config = t5_config({**small.script().CASES["t5_1_1"], "tie_word_embeddings": True}, "here", "float32")
  with pytest.raises(UserError, match="no gated T5 with a tied head"):
    write_t5x(tmp_path / "c", small.random_params(config), config)
  assert not list(tmp_path.iterdir())


def write_shapes(folder: Path, config: T5Config, lost: str) -> Path:
  """A folder of a model's size whose chunks are left out, which TensorStore reads as zeros."""
  target: dict = {}
  folder.mkdir()
  for name, shape in expected(config).items():
    if name.startswith(lost):
      continue
    *parts, last = name.split("/")
    node, place = target, ".".join(["target", *parts, last])
    for part in parts:
      node = node.setdefault(part, {})
    node[last] = {"driver": "zarr", "kvstore": {"driver": "file", "path": place}}
    (folder / place).mkdir()
    described = {"zarr_format": 2, "shape": shape, "chunks": shape, "dtype": "<f4", "compressor": None}
    described |= {"fill_value": None, "filters": None, "order": "C"}
    (folder / place / ".zarray").write_text(json.dumps(described))
  (folder / "checkpoint").write_bytes(msgpack.packb({"version": 3, "optimizer": {"target": target}}))
  return folder


def test_a_lost_last_layer_of_a_published_model_is_missed_and_of_another_folder_told(tmp_path, capsys):
  config = t5_config(catalogue.MODELS["flan_t5_small"].config, "here", "float32")

  def check(folder: Path, name: str) -> None:
    source = T5XCheckpoint(folder)
    module = module_for(source.config, str(folder), "float32")
    published.check_t5x(name, Description(str(folder), module, None, ""))  # pyright: ignore[reportArgumentType]

  whole, short = (
    write_shapes(tmp_path / "whole", config, "none"),
    write_shapes(tmp_path / "c", config, "encoder/layers_7/"),
  )
  check(whole, "flan_t5_small")
  with pytest.raises(UserError) as raised:
    check(short, "flan_t5_small")
  for said in (str(short), "flan_t5_small is a T5, gated and untied, of 8 encoder", "9 missing", "encoder/layers_7 is"):
    assert said in str(raised.value)
  assert not capsys.readouterr().err
  check(short, str(short))
  assert "taken for a T5, gated and untied, of 7 encoder and 8 decoder layers, width 512" in capsys.readouterr().err


def test_a_verb_holds_the_folder_against_the_name_that_gin_gives_it(tmp_path, capsys):
  config = t5_config(catalogue.MODELS["flan_t5_small"].config, "here", "float32")
  folder = write_shapes(tmp_path / "c", config, "decoder/layers_7/")
  small.write_vocabulary(folder)
  place = f"flan_t5_small/Checkpoint.sources = ('folder:{folder}',)\n"
  (tmp_path / "own.gin").write_text(f"{place}flan_t5_small/Checkpoint.vocabulary = '{folder}/spiece.model'\n")
  rows = write_questions(tmp_path)
  words = ["--gin_file", str(tmp_path / "own.gin"), "--model", "flan_t5_small", "--recipes", "fine_tuning"]
  words += [word for split in SPLITS for word in (f"--{split}", str(rows / f"{split}.jsonl"))]
  assert cli.main(["train", *words, "--model_dir", str(tmp_path / "run")]) == 2
  told = capsys.readouterr().err
  assert (
    "flan_t5_small is a T5, gated and untied" in told and "decoder/layers_7 is missing with all its 14 leaves" in told
  )
