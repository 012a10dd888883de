"""Questions on a passage in SQuAD's layout and its like: TyDi QA's gold passages, XorQA-IN of IndicGenBench."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from fiat_jax.data import languages
from fiat_jax.preparation.files import Files, Record, whole_object
from fiat_jax.preparation.sets import Part

TYDI_TRAIN = {
  "ar": 14805, "bn": 2390, "en": 3696, "fi": 6855, "id": 5702, "ko": 1625, "ru": 6490, "sw": 2755, "te": 5563,
}  # fmt: skip
TYDI_TEST = {"ar": 921, "bn": 113, "en": 440, "fi": 782, "id": 565, "ko": 276, "ru": 812, "sw": 499, "te": 669}


def tydi_qa(files: Files) -> Iterator[Part]:
  """A row's language begins its id, as in `swahili-123-0`. The development set is the test set: the other is secret."""
  for split, published in (("train", "train"), ("test", "dev")):
    for article in whole_object(files.only(rf"tydiqa-goldp-v[\d.]+-{published}\.json")).inner("data"):
      for paragraph in article.inner("paragraphs"):
        for record in paragraph.inner("qas"):
          identity, context = record.text("id"), paragraph.text("context")
          row = {"id": identity, "lang": languages.code(identity.split("-")[0]), "group": _group(context)}
          row |= {"question": record.text("question"), "title": article.get("title", ""), "context": context}
          yield Part("", split, {**row, "target": _answers(record)})


def xorqa_in(files: Files) -> Iterator[Part]:
  """`oracle_question` is the English question that was translated: reasoning of an oracle, never of a model."""
  for file, match in files.find(r"xorqa_(\w+)_(train|dev|test)\.json"):
    split = "validation" if match[2] == "dev" else match[2]
    for number, record in enumerate(whole_object(file).inner("examples")):
      context = record.text("context")
      row = {"id": f"{match[1]}-{match[2]}-{number}", "lang": match[1], "group": _group(context)}
      row |= {name: record.text(name) for name in ("question", "oracle_question")}
      row |= {"title": record.get("title", ""), "context": context}
      yield Part("", split, {**row, "target": _answers(record)})


def _answers(record: Record) -> str | list[str]:
  """The different texts of the answers: any counts."""
  texts = list(dict.fromkeys(answer.text("text") for answer in record.inner("answers")))
  if not any(text.strip() for text in texts):
    raise record.fault("the field 'answers' has no text")
  return texts[0] if len(texts) == 1 else texts


def _group(context: str) -> str:
  return hashlib.sha256(context.encode()).hexdigest()[:12]
