"""A checkpoint on this machine as the big model: what its answers are filed under."""

import pytest

from fiat_jax.configuration import configure
from fiat_jax.reasoning.engine import EngineReasoner


@pytest.mark.parametrize("weights", ["", "int8", "nf4"])
def test_answers_of_a_quantized_model_are_not_those_of_the_whole_one(weights, tiny_checkpoint):
  settings = configure([], [], {"BETA": str(tiny_checkpoint), "BETA_WEIGHTS": weights})
  name = EngineReasoner.of(settings).name
  assert name.endswith(f"-float32-{weights}" if weights else "-float32")
