"""Packing and order: whole examples, each where it says, and batch i from (seed, i) alone."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fiat_jax.data.batches import Batches, Shard, choose_shape
from fiat_jax.data.packing import Example, Shape, fill_rows, halved
from fiat_jax.data.sequences import Batch, pack

LENGTHS = st.tuples(st.integers(1, 40), st.integers(1, 12))  # of inputs and targets


def examples_of(lengths: list[tuple[int, int]]) -> list[Example]:
  """Examples in which no two tokens are the same, so that each can be told apart."""
  examples, token = [], 1
  for row, (inputs, targets) in enumerate(lengths):
    ids = np.arange(token, token + inputs + targets, dtype=np.int32)
    examples.append(Example(ids[:inputs], ids[inputs:], row))
    token += inputs + targets
  return examples


def write_shard(folder: Path, examples: list[Example]) -> Shard:
  folder.mkdir(exist_ok=True)
  for name in ("inputs", "targets"):
    columns = [getattr(example, name) for example in examples]
    np.save(folder / f"{name}.npy", np.concatenate(columns))
    np.save(folder / f"{name}_ends.npy", np.cumsum([len(column) for column in columns]))
  return Shard(folder)


def spans(batch: Batch) -> list[tuple[np.ndarray, np.ndarray]]:
  """Tokens and positions of every segment that is not padding."""
  found = []
  rows = zip(*(array.reshape(-1, array.shape[-1]) for array in batch[:3]), strict=True)
  for tokens, positions, segments in rows:
    for segment in range(1, segments.max() + 1):
      where = np.flatnonzero(segments == segment)
      assert (np.diff(where) == 1).all(), "a segment stands in one piece"
      found.append((tokens[where], positions[where]))
  return found


@pytest.fixture
def shard(tmp_path: Path) -> Shard:
  rng = np.random.default_rng(0)
  return write_shard(tmp_path, examples_of([tuple(pair) for pair in rng.integers(1, 30, (23, 2))]))


@settings(max_examples=200, deadline=None)
@given(lengths=st.lists(LENGTHS, min_size=1, max_size=20), rows=st.integers(1, 4), room=st.integers(0, 60))
def test_every_example_stands_once_and_whole(lengths: list[tuple[int, int]], rows: int, room: int):
  examples = examples_of(lengths)
  batch = pack(examples, Shape(rows=rows, length=52 + room, targets=12 + room // 2))
  packed = spans(batch)
  whole = sorted(np.concatenate([e.inputs, e.targets]).tolist() for e in examples)
  assert sorted(tokens.tolist() for tokens, _ in packed) == whole
  assert all((positions == np.arange(len(tokens))).all() for tokens, positions in packed)
  padding = batch.segments == 0
  assert not batch.tokens[padding].any() and not batch.positions[padding].any()


@settings(max_examples=200, deadline=None)
@given(lengths=st.lists(LENGTHS, min_size=1, max_size=20), rows=st.integers(1, 4), room=st.integers(0, 60))
def test_every_target_is_predicted_once_from_the_position_before_it(
  lengths: list[tuple[int, int]], rows: int, room: int
):
  examples = examples_of(lengths)
  batch = pack(examples, Shape(rows=rows, length=52 + room, targets=12 + room // 2))
  wanted = sorted(int(token) for e in examples for token in e.targets)
  counted = np.asarray(batch.target_weights > 0)
  assert sorted(batch.target_ids[counted].tolist()) == wanted
  assert batch.target_weights.sum() == len(wanted) and set(np.unique(batch.target_weights)) <= {0.0, 1.0}
  before = np.take_along_axis(batch.tokens, batch.target_index, axis=-1)[counted]
  segment = np.take_along_axis(batch.segments, batch.target_index, axis=-1)[counted]
  after = np.take_along_axis(batch.segments, np.minimum(batch.target_index + 1, batch.tokens.shape[-1] - 1), axis=-1)
  # Ids rise by one within an example: the token before a target is the target less one.
  assert (before == batch.target_ids[counted] - 1).all() and (segment == after[counted]).all() and (segment > 0).all()


@settings(max_examples=100, deadline=None)
@given(lengths=st.lists(LENGTHS, min_size=1, max_size=40), rows=st.integers(1, 3))
def test_microbatches_are_a_power_of_two_of_which_the_first_are_filled(lengths: list[tuple[int, int]], rows: int):
  shape = Shape(rows=rows, length=52, targets=12)
  batch = pack(examples_of(lengths), shape)
  count = len(batch.tokens)
  assert batch.tokens.shape == (count, rows, 52) and batch.target_ids.shape == (count, rows, 12)
  assert count & (count - 1) == 0 and count < 2 * batch.microbatches
  filled = [bool(micro.any()) for micro in batch.segments]
  assert filled == [n < batch.microbatches for n in range(count)]


def test_the_order_within_a_batch_changes_nothing():
  examples, shape = examples_of([(9, 2), (9, 2), (4, 1), (20, 3)]), Shape(rows=2, length=32, targets=8)
  for array, other in zip(pack(examples, shape), pack(examples[::-1], shape), strict=True):
    np.testing.assert_array_equal(array, other)


def test_a_shard_gives_what_was_written(shard: Shard):
  assert len(shard) == 23 and shard[3].row == 3
  for n in (0, 7, 22):
    assert len(shard[n].inputs) == shard.lengths("inputs")[n]
    ids = np.concatenate([shard[n].inputs, shard[n].targets])
    assert (ids == np.arange(ids[0], ids[0] + shard[n].length)).all()
  assert shard[1].inputs[0] == shard[0].length + 1


@pytest.mark.parametrize("size", [1, 5, 23, 50])
def test_each_epoch_holds_every_row_once(shard: Shard, size: int):
  batches = Batches(shard, size=size, seed=3, shape=choose_shape(shard, 256, 4))
  epochs = [number for i in range(-(-3 * 23 // size)) for number in batches.rows(i)]
  orders = [epochs[23 * n : 23 * (n + 1)] for n in range(3)]
  assert all(sorted(order) == list(range(23)) for order in orders)
  assert orders[0] != orders[1] != orders[2]


def test_a_batch_does_not_depend_on_what_was_asked_before(shard: Shard):
  shape = choose_shape(shard, 256, 4)
  fresh = lambda seed=0: Batches(shard, size=4, seed=seed, shape=shape)  # noqa: E731
  in_order = fresh()
  for i in range(9):
    before = in_order[i]
    for array, other in zip(before, fresh()[i], strict=True):
      np.testing.assert_array_equal(array, other)
  assert [in_order.rows(i) for i in (8, 2, 5)] == [fresh().rows(i) for i in (8, 2, 5)]
  assert [fresh(1).rows(i) for i in range(5)] != [fresh().rows(i) for i in range(5)]


@settings(max_examples=50, deadline=None)
@given(
  lengths=st.lists(LENGTHS, min_size=1, max_size=30), tokens=st.sampled_from([1, 64, 1000]), batch=st.integers(1, 8)
)
def test_the_chosen_shape_holds_every_example(
  tmp_path_factory: pytest.TempPathFactory, lengths: list[tuple[int, int]], tokens: int, batch: int
):
  shard = write_shard(tmp_path_factory.mktemp("shard"), examples_of(lengths))
  shape = choose_shape(shard, tokens, batch)
  assert all(shard[n].length <= shape.length and len(shard[n].targets) <= shape.targets for n in range(len(shard)))
  chunks = [[shard[n] for n in range(at, min(at + batch, len(shard)))] for at in range(0, len(shard), batch)]
  needed = max(len(fill_rows(chunk, shape)) for chunk in chunks)
  most = min(max(1, tokens // shape.length), needed)
  assert most / 2 <= shape.rows <= most


def test_rows_of_a_microbatch_are_such_that_few_of_the_last_are_empty(tmp_path):
  nine = write_shard(tmp_path / "nine", examples_of([(50, 10)] * 18))
  shape = choose_shape(nine, 256, 9)
  assert (shape.rows, shape.length) == (3, 64), "4 rows would fit, and leave 3 of 12 empty"
  assert choose_shape(nine, 256, 8).rows == 4


def test_shared_prefix_is_what_all_prompts_begin_with_and_none_is_whole(tmp_path):
  begin = list(range(40))
  for name, rest, expected in (("all", [[1], [2, 3], [1, 4]], 40), ("one is whole", [[5], [], [5, 6]], 39)):
    examples = [Example(np.array(begin + ids, np.int32), np.array([1], np.int32), n) for n, ids in enumerate(rest)]
    assert write_shard(tmp_path / name, examples).shared_prefix() == expected
  apart = [Example(np.array(ids, np.int32), np.array([1], np.int32), n) for n, ids in enumerate([begin, begin[::-1]])]
  assert write_shard(tmp_path / "apart", apart).shared_prefix() == 0
  assert write_shard(tmp_path / "single", apart[:1]).shared_prefix() == 0


@settings(max_examples=50, deadline=None)
@given(rows=st.integers(1, 40), length=st.integers(1, 40), longest=st.integers(1, 2000))
def test_a_halved_shape_is_smaller_and_still_holds_the_longest_example(rows: int, length: int, longest: int):
  shape = Shape(rows=rows, length=64 * -(-longest // 64) + 64 * (length - 1), targets=8)
  sizes = []
  while shape is not None:
    assert shape.length >= longest and shape.rows >= 1
    sizes.append(shape.rows * shape.length)
    shape = halved(shape, longest, 8)
  assert all(after < before for before, after in itertools.pairwise(sizes))
  assert sizes[-1] == 64 * -(-longest // 64), "ends with one row that just holds the longest"


def test_halving_rows_packs_the_same_rows(shard: Shard):
  whole = Batches(shard, size=8, seed=0, shape=Shape(rows=4, length=64, targets=64))
  half = Batches(shard, size=8, seed=0, shape=Shape(rows=2, length=64, targets=64))
  for array, other in zip(whole[3][:-1], half[3][:-1], strict=True):
    filled = [a.reshape(-1, a.shape[-1])[: whole[3].microbatches * 4] for a in (array, other)]
    rows = min(map(len, filled))
    np.testing.assert_array_equal(filled[0][:rows], filled[1][:rows])


@pytest.fixture
def forms(tmp_path: Path) -> tuple[Shard, Shard]:
  """200 examples with reasoning (15 prompt tokens) and without (5)."""
  long, short = (examples_of([(inputs, 2)] * 200) for inputs in (15, 5))
  return write_shard(tmp_path / "long", long), write_shard(tmp_path / "short", short)


def short_ones(batches: Batches, epoch: int) -> set[int]:
  """The numbers of the rows whose prompt had 5 tokens in an epoch of batches of 20."""
  found = []
  for i in range(10 * epoch, 10 * epoch + 10):
    firsts = [tokens[0] for tokens, _ in spans(batches[i]) if len(tokens) == 7]
    found += [(first - 1) // 7 for first in firsts]
  assert len(found) == len(set(found))
  return {int(n) for n in found}


def test_reasoning_dropout_is_a_fresh_share_of_the_rows_each_epoch(forms: tuple[Shard, Shard]):
  fresh = lambda seed=0: Batches(  # noqa: E731
    forms[0], size=20, seed=seed, shape=choose_shape(forms[0], 512, 20, forms[1]), short=forms[1], dropout=0.3
  )
  first, second = (short_ones(fresh(), epoch) for epoch in (0, 1))
  assert all(40 <= len(epoch) <= 80 for epoch in (first, second)) and first != second
  assert second == short_ones(fresh(), 1), "whatever was asked before"
  assert first != short_ones(fresh(1), 0)


def test_without_dropout_the_batches_are_those_of_before(forms: tuple[Shard, Shard]):
  shape = choose_shape(forms[0], 512, 20)
  plain = Batches(forms[0], size=20, seed=0, shape=shape)
  none = Batches(forms[0], size=20, seed=0, shape=shape, short=forms[1], dropout=0.0)
  for array, other in zip(plain[3], none[3], strict=True):
    np.testing.assert_array_equal(array, other)


def test_a_longer_form_without_reasoning_fits_too(forms: tuple[Shard, Shard], tmp_path: Path):
  assert choose_shape(forms[1], 512, 20, forms[0]).length >= 17
  longer = write_shard(tmp_path / "longer", examples_of([(150, 2)] * 200))
  assert choose_shape(forms[0], 512, 20, longer).length >= 152


@pytest.mark.parametrize("size", [1, 7])
def test_a_single_row_makes_batches(tmp_path: Path, size: int):
  one = write_shard(tmp_path, examples_of([(4, 2)]))
  batches = Batches(one, size=size, seed=0, shape=choose_shape(one, 256, size))
  assert batches.rows(3) == [0] * size and batches[3].target_weights.sum() == 2 * size
