"""T5X folders in every form, as `t5x_folder.py` writes them: what is read, written and refused."""

from __future__ import annotations

import dataclasses
import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import ml_dtypes
import msgpack
import numpy as np
import pytest
import t5 as small
from t5x_folder import SPECS, scanned, t5x_arrays, with_heads, write, write_form, write_old_orbax, write_zarr

from fiat_jax.checkpoints.load import load_params
from fiat_jax.checkpoints.t5x import T5XCheckpoint, write_t5x
from fiat_jax.checkpoints.t5x_config import expected
from fiat_jax.checkpoints.t5x_leaf import PART, zarr
from fiat_jax.checkpoints.t5x_store import folder_spec
from fiat_jax.errors import UserError
from fiat_jax.models.t5_registry import t5_config, t5_shapes, t5x_leaves

QUERY = "encoder/layers_0/attention/query/kernel"


def load(folder: Path, dtype: str = "float32"):
  source = T5XCheckpoint(folder)
  config = t5_config(source.config, str(folder), dtype)
  return config, load_params(source, t5x_leaves(config), t5_shapes(config), dtype)


pytestmark = pytest.mark.slow  # most of it is compiling


@pytest.fixture(scope="module")
def wanted(tmp_path_factory):
  """Of every case, module and parameters as the Hugging Face folder gives them."""
  folder = tmp_path_factory.mktemp("hugging_face")
  return {case: small.load(small.write_checkpoint(folder / case, case)) for case in small.CASES}


def assert_same(got: Any, want: Any) -> None:
  jax.tree.map(np.testing.assert_array_equal, got, want)


@pytest.mark.parametrize("case", small.CASES)
@pytest.mark.parametrize("form", SPECS)
def test_every_form_of_a_native_folder_gives_hugging_face_s_parameters(tmp_path, wanted, case, form):
  config, params = load(write(tmp_path / "checkpoint_7", t5x_arrays(case), form))
  module, expected = wanted[case]
  assert_same(params, expected)
  for name in ("width", "heads", "head_dim", "ffn_width", "gated", "tied_head", "buckets", "vocab_size"):
    assert getattr(config, name) == getattr(module.config, name)
  assert (config.encoder_layers, config.decoder_layers) == (3, 2)


@pytest.mark.parametrize("case", ["t5_1_0", "mt5"])
def test_scanned_layers_are_on_axis_1(tmp_path, wanted, case):
  _, params = load(write(tmp_path / "scanned", scanned(t5x_arrays(case)), state=False))
  assert_same(params, wanted[case][1])


@pytest.mark.parametrize("scan", ["{stack}/layers", "{stack}/{stack}"])
def test_scanned_layers_may_keep_heads_apart_and_have_the_stack_s_name(tmp_path, wanted, scan):
  arrays = scanned(with_heads(t5x_arrays("t5_1_1")), scan)
  assert arrays[scan.format(stack="decoder") + "/self_attention/out/kernel"].shape == (3, 2, 8, 32)
  _, params = load(write(tmp_path / "c", arrays))
  assert_same(params, wanted["t5_1_1"][1])


def test_layers_one_by_one_may_keep_heads_apart(tmp_path, wanted):
  _, params = load(write(tmp_path / "c", with_heads(t5x_arrays("mt5"))))
  assert_same(params, wanted["mt5"][1])


def test_a_leaf_that_stands_there_twice_is_refused(tmp_path):
  arrays = t5x_arrays("t5_1_1")
  with pytest.raises(UserError, match=r"encoder/layers_0/\S+ stands there twice"):
    T5XCheckpoint(write(tmp_path / "c", arrays | scanned(arrays)))


@pytest.mark.parametrize("kind", ["uint16", "bfloat16"])
def test_bfloat16_is_kept_as_such_or_as_whole_numbers(tmp_path, wanted, kind):
  arrays = {name: a.astype(ml_dtypes.bfloat16).view(kind) for name, a in t5x_arrays("t5_1_1").items()}
  _, params = load(write(tmp_path / "half", arrays), dtype="bfloat16")
  assert_same(params, jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), wanted["t5_1_1"][1]))


@pytest.mark.parametrize("form", ["orbax", "ocdbt"])
def test_orbax_folders_have_a_state_and_no_optimizer(tmp_path, wanted, form):
  _, params = load(write_form(tmp_path / "checkpoint_7", t5x_arrays("t5_1_1"), form))
  assert_same(params, wanted["t5_1_1"][1])


@pytest.mark.parametrize("collection", [(), ("params",)])
def test_orbax_folders_of_old_name_their_leaves_in_msgpack(tmp_path, wanted, collection):
  import orbax.checkpoint as ocp

  folder = write_old_orbax(tmp_path / "checkpoint_7", t5x_arrays("t5_1_1"), collection)
  restored: Any = ocp.PyTreeCheckpointer().restore(folder / "state")["target"]
  for part in (*collection, *QUERY.split("/")):
    restored = restored[part]
  np.testing.assert_array_equal(restored, t5x_arrays("t5_1_1")[QUERY])  # Orbax takes it for its own
  for place in (folder, folder / "state"):
    assert_same(load(place)[1], wanted["t5_1_1"][1])


def test_a_state_without_its_tree_is_told(tmp_path):
  folder = write_old_orbax(tmp_path / "checkpoint_7", t5x_arrays("t5_1_1"))
  (folder / "state" / "checkpoint").unlink()
  with pytest.raises(UserError, match="neither `_METADATA` nor `checkpoint` stands in a folder `state`"):
    T5XCheckpoint(folder)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("case", small.CASES)
def test_a_round_trip_is_exact(tmp_path, wanted, case, dtype):
  module, params = wanted[case]
  params = jax.tree.map(lambda leaf: leaf.astype(dtype), params)
  write_t5x(tmp_path / "checkpoint_12", params, module.config, step=12)
  _, again = load(tmp_path / "checkpoint_12", dtype)
  assert_same(again, params)
  assert not list(tmp_path.glob("*.partial"))
  with pytest.raises(UserError, match="is there already"):
    write_t5x(tmp_path / "checkpoint_12", params, module.config)


def test_what_is_written_is_t5x_s_own_layout(tmp_path, wanted):
  """Read with msgpack, JSON and gzip alone."""
  module, params = wanted["t5_1_1"]
  write_t5x(tmp_path / "c", params, module.config, step=3)
  content = msgpack.unpackb((tmp_path / "c" / "checkpoint").read_bytes(), raw=False)
  assert content["version"] == 3 and set(content["optimizer"]) == {"target", "state"}
  spec = content["optimizer"]["target"]["encoder"]["layers_0"]["attention"]["query"]["kernel"]
  place = tmp_path / "c" / "target.encoder.layers_0.attention.query.kernel"
  assert spec["driver"] == "zarr" and spec["kvstore"] == {"driver": "file", "path": place.name}
  described = json.loads((place / ".zarray").read_text())
  chunk = np.frombuffer(gzip.decompress((place / "0.0").read_bytes()), described["dtype"])
  stored = chunk.reshape(described["chunks"])
  np.testing.assert_array_equal(stored, t5x_arrays("t5_1_1")["encoder/layers_0/attention/query/kernel"])


def test_bfloat16_is_written_as_such_which_t5x_takes(tmp_path, wanted):
  """T5X refuses a spec whose type is uint16, or whose folder's is <u2."""
  module, params = wanted["t5_1_1"]
  write_t5x(tmp_path / "c", jax.tree.map(lambda leaf: leaf.astype("bfloat16"), params), module.config)
  spec = msgpack.unpackb((tmp_path / "c" / "checkpoint").read_bytes(), raw=False)["optimizer"]["target"]
  assert spec["encoder"]["layers_0"]["attention"]["query"]["kernel"]["dtype"] == "bfloat16"
  folders = list((tmp_path / "c").glob("target.*"))
  assert folders and {json.loads((f / ".zarray").read_text())["dtype"] for f in folders} == {"bfloat16"}


def test_missing_and_misshapen_leaves_are_named_with_what_was_expected(tmp_path):
  arrays = t5x_arrays("t5_1_1")
  del arrays["decoder/layers_1/mlp/wo/kernel"]
  arrays["encoder/layers_2/attention/out/kernel"] = arrays["encoder/layers_2/attention/out/kernel"].T
  with pytest.raises(UserError) as fault:
    load(write(tmp_path / "c", arrays))
  for text in (
    str(tmp_path / "c"),
    "decoder/layers_1/mlp/wo/kernel is missing",
    "out/kernel is [32, 24], not [24, 32]",
  ):
    assert text in str(fault.value)


def test_extra_leaves_are_counted_and_named(tmp_path):
  arrays = t5x_arrays("t5_1_1") | {f"decoder/router_{n}/kernel": np.zeros((2, 2), np.float32) for n in range(5)}
  with pytest.raises(UserError, match=r"decoder/router_0/kernel has no place in it; .* and 2 more"):
    load(write(tmp_path / "c", arrays))


def test_another_architecture_is_refused_with_what_it_holds(tmp_path):
  arrays = {"decoder/layers_0/self_attention/query/kernel": np.zeros((4, 4), np.float32)}
  with pytest.raises(UserError, match=r"is no T5: token_embedder/embedding is missing; it holds 1 leaves"):
    load(write(tmp_path / "c", arrays))


@pytest.mark.parametrize(
  "name", ["layers/relpos_bias", "layers/relative_posemb", "encoder/relpos_bias", "relpos_bias", "layers_0/relpos_bias"]
)
def test_a_bias_for_each_layer_is_refused_as_umt5(tmp_path, name):
  arrays = t5x_arrays("t5_1_1")
  bias = arrays.pop("encoder/relpos_bias/rel_embedding")
  of_all = bias if "layers_0" in name else np.stack([bias] * 3, axis=1)
  with pytest.raises(UserError, match="umT5"):
    load(write(tmp_path / "c", {f"encoder/{name}/rel_embedding": of_all, **scanned(arrays)}))


def test_a_lost_leaf_and_a_damaged_file_are_told(tmp_path):
  folder = write(tmp_path / "c", t5x_arrays("t5_1_1"))
  (folder / "target.encoder.layers_0.mlp.wo.kernel" / ".zarray").unlink()
  with pytest.raises(UserError, match=r"encoder/layers_0/mlp/wo/kernel cannot be read"):
    load(folder)
  (folder / "checkpoint").write_bytes((folder / "checkpoint").read_bytes()[:100])
  with pytest.raises(UserError, match="not what T5X writes"):
    load(folder)


def test_a_folder_without_a_checkpoint_and_an_unknown_place_are_refused(tmp_path):
  with pytest.raises(UserError, match="is no T5X checkpoint"):
    T5XCheckpoint(tmp_path)
  with pytest.raises(UserError, match="not from ftp://"):
    T5XCheckpoint("ftp://host/folder")


SHAPE = (512, 384)


def wide(seed: int) -> dict[str, np.ndarray]:
  """A T5 whose query kernels are as wide as T5 small's; those of the encoder's first layer by the seed."""
  narrow = t5_config(small.script().CASES["t5_1_1"], "here", "float32")
  config = dataclasses.replace(narrow, encoder_layers=1, decoder_layers=1, width=SHAPE[0], heads=6, head_dim=64)
  arrays = {name: np.full(shape, 0.5, np.float32) for name, shape in expected(config).items()}
  return arrays | {QUERY: np.random.default_rng(seed).normal(size=SHAPE).astype(np.float32)}


@pytest.mark.parametrize("form", ["native", "orbax", "ocdbt"])
def test_a_fingerprint_tells_two_models_apart_that_differ_in_one_large_kernel(tmp_path, form):
  def fingerprint(name: str, seed: int, touched: Callable[[np.ndarray], object] = lambda _: None) -> str:
    arrays = wide(seed)
    touched(arrays[QUERY])
    write_form(tmp_path / name, arrays, form)
    return T5XCheckpoint(tmp_path / name).fingerprint

  one, same, other = fingerprint("one", 1), fingerprint("same", 1), fingerprint("other", 2)
  amid = fingerprint("amid", 1, lambda kernel: kernel.__setitem__((255, 200), 7.0))
  assert one == same and one != other
  assert form != "native" or amid not in (one, other)  # gzip's checksum is of a whole chunk, zstandard has none
  assert T5XCheckpoint(tmp_path / "one").fingerprint == one


def test_a_fingerprint_reads_a_bounded_part_of_a_large_leaf(tmp_path):
  array = np.random.default_rng(0).normal(size=(2048, 1024)).astype(np.float32)
  write_zarr(tmp_path / "kernel", array)
  leaf = zarr(folder_spec(str(tmp_path / "kernel")), "kernel", "here")
  assert len(leaf.sample()) < 5 * PART < array.nbytes / 20
