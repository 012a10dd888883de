"""A card names the licences that are known, and no other."""

import pytest

from fiat_jax.exports import licences


@pytest.mark.parametrize(
  ("card", "found"),
  [
    ("---\nlanguage: en\nlicense: apache-2.0\n---\n# A\n", "apache-2.0"),
    ("---\nlicense: 'other'\nlicense_link: x\n---\n", "other"),
    ("---\nlanguage: en\n---\nlicense: mit\n", ""),
    ("license: mit\n", ""),
  ],
)
def test_a_folder_s_card_names_its_licence(tmp_path, card, found):
  (tmp_path / "README.md").write_text(card)
  assert licences.of_base(str(tmp_path)) == found


def test_a_gguf_file_names_its_own_and_a_bare_folder_none(smollm2_path, tmp_path):
  assert licences.of_base(str(smollm2_path)) == "apache-2.0"
  assert licences.of_base(str(tmp_path)) == "" and licences.of_base("gs://bucket/folder") == ""


def test_rows_of_published_sets_have_theirs():
  files = ["prepared:xor_attriqa/retrieved:train[:8]", "prepared:xor_attriqa/retrieved:test", "/mine/rows.csv"]
  (found,) = licences.of_rows(files)
  assert found.startswith("xor_attriqa: CC")
