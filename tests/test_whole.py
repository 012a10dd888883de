"""Files that commands write and read again."""

import pytest

from fiat_jax.errors import UserError
from fiat_jax.whole import read_records, read_result, write_whole


@pytest.mark.parametrize("read", [read_result, read_records])
@pytest.mark.parametrize("content", [b"{", b"[]", b'"text"', b'{"a": "\xff"}', b"[" * 100_000, "folder", None])
def test_what_a_run_wrote_and_cannot_be_read_is_named(read, content, tmp_path):
  file = tmp_path / "results.json"
  if content == "folder":
    file.mkdir()
  elif content is not None:
    file.write_bytes(content)
  said = "is missing: run the command" if content is None else "cannot be read .*: delete it"
  with pytest.raises(UserError, match=rf"results\.json: {said}"):
    read(file)


def test_only_newlines_end_a_record(tmp_path):
  write_whole(tmp_path / "rows.jsonl", '{"a": "one\u2028line"}\n{"a": 2}\n')
  assert read_records(tmp_path / "rows.jsonl") == [{"a": "one\u2028line"}, {"a": 2}]
