"""Bodies of requests: whatever comes, it is read as it was meant or refused by name."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fiat_jax.serving import fields, protocol
from fiat_jax.serving.refusal import Refusal

COMPLETION = {"model": "m", "prompt": "one"}
CHAT = {"model": "m", "messages": [{"role": "user", "content": "one"}]}
PARSERS = {"prompt": protocol.parse_completion, "messages": protocol.parse_chat}

VALUES = st.recursive(
  st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=4),
  lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
  max_leaves=6,
)
NAMES = "model prompt messages n stop max_tokens max_completion_tokens temperature top_p seed logprobs top_logprobs"
NAMES += " echo stream stream_options tools logit_bias best_of user x"


def refusal(parse, body) -> Refusal:
  with pytest.raises(Refusal) as caught:
    parse(body)
  assert caught.value.message and caught.value.status == 400
  return caught.value


@given(st.binary(max_size=40) | VALUES.map(lambda value: json.dumps(value).encode()))
def test_any_bytes_are_an_object_or_refused(body):
  try:
    assert isinstance(fields.parse_object(body), dict)
  except Refusal as e:
    assert e.code == "invalid_json"


@pytest.mark.parametrize("whole", [COMPLETION, CHAT], ids=["completion", "chat"])
@given(changes=st.dictionaries(st.sampled_from(NAMES.split()), VALUES, max_size=4))
def test_any_object_is_read_or_refused_in_openai_s_shape(whole, changes):
  parse = PARSERS["prompt" if whole is COMPLETION else "messages"]
  try:
    ask = parse(whole | changes)
  except Refusal as e:
    error = json.loads(e.json())["error"]
    assert set(error) == {"message", "type", "param", "code"} and error["type"] == "invalid_request_error"
    return
  assert ask.n >= 1 and 0 <= ask.temperature <= 2 and 0 < ask.top_p <= 1 and ask.answers >= 1
  assert all(stop for stop in ask.stops) and (ask.max_tokens or 1) >= 1
  assert ask.usage <= ask.stream


@given(st.sampled_from([COMPLETION, CHAT]), st.text(min_size=1, max_size=12))
def test_a_field_that_nobody_knows_is_refused_by_name(whole, name):
  known = set(protocol.IGNORED) | {"model", "prompt", "messages", "n", "stop", "seed", "echo"}
  parse = PARSERS["prompt" if whole is COMPLETION else "messages"]
  if name not in known:
    assert refusal(parse, whole | {name: "value"}).param


@pytest.mark.parametrize(
  ("field", "value", "says"),
  [
    ("best_of", 3, "best_of is not supported here but as 1"),
    ("suffix", "x", "suffix is not supported"),
    ("logit_bias", {"5": 1}, "logit_bias is not supported"),
    ("presence_penalty", 0.5, "presence_penalty is not supported here but as 0"),
    ("temprature", 0, "'temprature' is unknown; did you mean temperature?"),
    ("n", True, "n is true: give a whole number from 1 to 128"),
    ("n", 0, "n is 0"),
    ("temperature", "hot", 'temperature is "hot": give a number from 0 to 2'),
    ("temperature", float("inf"), "temperature is Infinity"),
    ("top_p", 0, "top_p is 0: give more than 0"),
    ("logprobs", 21, "logprobs is 21: give a whole number from 0 to 20"),
    ("stop", [""], "stop: give texts of 1 to 256"),
    ("stop", ["a"] * 17, "stop has 17 texts"),
    ("stop", [5], "stop is no string"),
    ("stream_options", {"include_usage": True}, "goes with stream: true"),
    ("prompt", [], "prompt is an empty list"),
    ("prompt", [1, "a"], "prompt: give a string"),
    ("prompt", [True], "prompt: give a string"),
    ("prompt", "\ud800", "half a surrogate pair"),
    ("model", None, "model is missing"),
    ("max_completion_tokens", 9, "max_tokens and max_completion_tokens differ"),
  ],
)
def test_what_cannot_be_done_is_refused_and_says_how_it_could(field, value, says):
  assert says in refusal(protocol.parse_completion, COMPLETION | {"max_tokens": 8} | {field: value}).message


@pytest.mark.parametrize(
  ("messages", "says"),
  [
    ([], "messages is no list of at least one"),
    (["hello"], "messages[0] is no object"),
    ([{"role": "tool", "content": "x"}], "messages[0].role is 'tool': give one of system, user, assistant"),
    ([{"role": "user"}], "messages[0].content is missing"),
    ([{"role": "user", "content": [{"type": "image_url"}]}], "messages[0].content[0]: only parts of type text"),
    ([{"role": "user", "content": "x", "name": "me"}], "messages[0].name is not supported"),
  ],
)
def test_chats_that_cannot_be_read_are_refused_with_their_place(messages, says):
  assert says in refusal(protocol.parse_chat, CHAT | {"messages": messages}).message


def test_what_changes_no_answer_is_passed_over():
  extra = {"user": "me", "metadata": {"a": "b"}, "n": None, "stop": None, "logit_bias": {}, "presence_penalty": 0}
  ask = protocol.parse_completion(COMPLETION | extra | {"best_of": 1, "prompt": [[1, 2], "a"], "stop": "x"})
  assert ask.prompts == ((1, 2), "a") and ask.stops == ("x",) and ask.max_tokens == 16 and ask.answers == 2
  sent_back = {"role": "assistant", "content": "b", "refusal": None, "tool_calls": None}
  parts = {"role": "developer", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}
  ask = protocol.parse_chat(CHAT | {"messages": [parts, *CHAT["messages"], sent_back], "tool_choice": "none"})
  assert ask.messages[0] == {"role": "system", "content": "ab"} and ask.max_tokens is None and ask.chat
