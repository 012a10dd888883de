"""XOR-AttriQA (Muller et al., 2023): does the passage show that the prediction answers the query? True or False."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from fiat_jax.data import languages
from fiat_jax.preparation.files import Files, Record, rows
from fiat_jax.preparation.sets import Part

LANGUAGES = ("bn", "fi", "ja", "ru", "te")
WANTED = r"in-language/(?:\w+/)?(?:\w*[_-])?(bn|fi|ja|ru|te|train|val|valid|validation|dev)\.(?:jsonl|json|csv|tsv)"
# The release's own README; the in-English setting is for comparing annotators alone.
PUBLISHED = {
  "train": {"": 250},
  "validation": {"": 500},
  "test": {"bn": 1407, "fi": 659, "ja": 954, "ru": 634, "te": 1066},
}
VIEWS = ("retrieved", "in_language", "english")


def published() -> dict[str, dict[str, int]]:
  return {f"{view}/{split}": dict(counts) for view in VIEWS for split, counts in PUBLISHED.items()}


def convert(files: Files) -> Iterator[Part]:
  """Each row with the passage that was retrieved, as the papers read it, and with either translation of it."""
  for file, match in files.find(WANTED):
    named = match[1]
    split = "test" if named in LANGUAGES else "train" if named == "train" else "validation"
    for record in rows(file):
      row = _row(record, f"{named}-{record.line}")
      translations = {"in_language": record.text("passage_in_language"), "english": record.text("passage_en")}
      retrieved = "english" if languages.code(record.text("passage_retrieved_language")) == "en" else "in_language"
      for view in VIEWS:
        yield Part(view, split, {**row, "passage": translations[retrieved if view == "retrieved" else view]})


def _row(record: Record, identity: str) -> dict[str, str]:
  query = record.text("query")
  lang = languages.code(record.text("query_language"))
  return {
    "id": identity,
    "lang": lang,
    "group": hashlib.sha256(f"{lang}:{query}".encode()).hexdigest()[:12],
    "question": query,
    "answer": record.text("prediction"),
    "passage_language": record.text("passage_retrieved_language"),
    "target": str(record.truth("ais")),
  }
