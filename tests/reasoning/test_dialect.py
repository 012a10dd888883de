"""What endpoints refuse, and in which words."""

import pytest

from fiat_jax.reasoning.dialect import Dialect


@pytest.mark.parametrize(
  ("status", "text", "blamed"),
  [
    (400, "Unsupported parameter: 'max_tokens' is not supported with this model.", {"max_tokens"}),
    (400, "Unrecognized request argument supplied: max_tokens", {"max_tokens"}),
    (422, "max_tokens is not allowed for reasoning models", {"max_tokens"}),
    (400, "temperature: Only the default (1) value is supported", {"temperature"}),
    (400, "max_tokens is too large: this model supports at most 4096", set()),
    (500, "Unsupported parameter: 'temperature'", set()),
    (400, "this prompt is not allowed", set()),
  ],
)
def test_a_parameter_that_is_refused_is_left_out_from_then_on(status, text, blamed):
  dialect = Dialect("big", "http://there/v1")
  assert dialect.blames(status, text) is bool(blamed)
  assert dialect.learns(status, text) is bool(blamed) and dialect.left_out == blamed
  assert not dialect.learns(status, text), "it is not sent any more: the refusal has another reason"
