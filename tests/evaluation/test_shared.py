"""Shots that the prompts of a subject share are computed once, and nothing comes out otherwise."""

from __future__ import annotations

import numpy as np
import pytest
import tiny

from fiat_jax.data.packing import Example
from fiat_jax.decoding import likelihood
from fiat_jax.evaluation.shared import LEAST, grouped

SUBJECTS = [tiny.random_ids(LEAST + 26, seed) for seed in (1, 2)]


def _shard(folder, prompts):
  examples = [Example(np.array(ids, np.int32), np.array([1], np.int32), n) for n, ids in enumerate(prompts)]
  return tiny.write_shard(folder, examples)


def test_rows_are_grouped_by_what_most_of_them_begin_with(tmp_path):
  first, second = SUBJECTS
  prompts = [
    [*first, 1, 2],
    [*second, 3],
    [*first, 2, 2],
    [5, 6, 7],
    [*first[: LEAST + 1], 9, 9],
    [*second, 4],
    [*first, 3],
    [*first, 4],
  ]
  groups = grouped(_shard(tmp_path, prompts))
  assert [group.rows for group in groups] == [[0, 2, 6, 7], [1, 5], [3, 4]]
  assert [group.shared for group in groups] == [len(first), len(second), 0]


def test_no_prompt_is_shared_whole(tmp_path):
  (group,) = grouped(_shard(tmp_path, [SUBJECTS[0]] * 3))
  assert group.rows == [0, 1, 2] and group.shared == len(SUBJECTS[0]) - 1


@pytest.mark.parametrize("count", [70, 89])
def test_labels_score_as_they_do_after_the_whole_prompt(count, tiny_model):
  prompt, labels = [*SUBJECTS[0], 11, 12], [[3, 4], [5], [6, 7, 8]]
  alone = likelihood.label_logprobs(tiny_model.module, tiny_model.layers, prompt, labels)
  known = likelihood.share(tiny_model.module, tiny_model.layers, prompt[:count])
  assert known is not None and known.length == count
  shared = likelihood.label_logprobs(tiny_model.module, tiny_model.layers, prompt, labels, known)
  np.testing.assert_allclose(shared, alone, rtol=1e-4, atol=1e-4)
  variables = {"params": tiny_model.params}
  padded = [tiny.forward(tiny_model.module, variables, *tiny.rows_of([[*prompt, *label]], 128))[0] for label in labels]
  for label, logits, score in zip(labels, padded, shared, strict=True):
    logits = np.asarray(logits, np.float64)[len(prompt) - 1 : len(prompt) - 1 + len(label)]
    logprobs = logits[np.arange(len(label)), label] - np.logaddexp.reduce(logits, axis=-1)
    assert score == pytest.approx(logprobs.sum(), abs=1e-3)
