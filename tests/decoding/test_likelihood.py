"""Log-likelihoods of labels against a plain forward pass over prompt and label, one by one."""

import numpy as np
import pytest
import tiny

from fiat_jax.decoding.likelihood import label_logprobs

LABELS = {
  "one token each": [[5], [6], [7]],
  "unequal lengths": [[5], [8, 9, 10, 11, 12, 13], [14, 15]],
  "shared beginnings": [[5, 6, 7], [5, 6, 8], [5, 6]],
  "many": [tiny.random_ids(9, seed=n) for n in range(10)],
}


@pytest.mark.parametrize("case", LABELS)
@pytest.mark.parametrize("prompt_length", [1, 20])
def test_each_label_is_scored_as_if_alone(tiny_model, case, prompt_length):
  prompt, labels = tiny.random_ids(prompt_length, seed=3), LABELS[case]
  scores = label_logprobs(tiny_model.module, tiny_model.layers, prompt, labels)
  variables = {"params": tiny_model.params}
  expected = [np.sum(tiny.logprobs_of(tiny_model.module, variables, prompt, label)) for label in labels]
  np.testing.assert_allclose(scores, expected, atol=1e-4)
