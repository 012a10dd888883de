"""XTREME-UP's question answering (Ruder et al., 2023): `question`, `title`, `context` and one `target` a row."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from fiat_jax.preparation.files import Files, Found, rows
from fiat_jax.preparation.sets import Part

SPLITS = ("train", "validation", "test")
_INDIC = "as bho brx gbm gom gu hi hne kn mai ml mni mr mwr or pa ps sa ta ur"
INDIC = tuple(_INDIC.split())  # FIAT, Table 5
FULL = (*INDIC, "ar", "bn", "fi", "ja", "ko", "ru", "te")
OFFICIAL = ("bn", "te", *(lang for lang in INDIC if lang != "hi"))  # XTREME-UP's under-represented languages
VIEWS = {"indic": INDIC, "full": FULL, "official": OFFICIAL}
IN_LANGUAGE = ("ar", "bn", "en", "fi", "id", "ko", "ru", "sw", "te")  # TyDi QA's, of which it is made
WANTED = r"qa_(cross|in)_lang/(train|validation|test)/(\w+)\.jsonl"
# FIAT, Table 5: rows of each of FULL, in that order.
SIZES = {
  "train": "323 326 326 326 326 326 326 326 326 326 326 326 326 326 326 326 326 326 326 326 "
  "3159 377 2467 2926 3327 2560 373",
  "validation": "356 358 357 365 365 371 519 372 373 369 373 380 385 386 386 385 384 385 384 387 "
  "941 618 978 727 861 731 468",
  "test": "633 631 633 634 629 630 1049 629 631 635 629 628 633 632 632 624 633 630 630 634 "
  "582 397 606 471 548 448 333",
}


def published() -> dict[str, dict[str, int]]:
  """Rows by view, split and language."""
  by_split = {split: dict(zip(FULL, map(int, sizes.split()), strict=True)) for split, sizes in SIZES.items()}
  return {
    f"{view}/{split}": {lang: counts[lang] for lang in langs}
    for view, langs in VIEWS.items()
    for split, counts in by_split.items()
  }


def convert(files: Files) -> Iterator[Part]:
  """Cross-lingual rows in the views of the papers; in-language ones in the view `in_language`."""
  for found in files.find(WANTED):
    across, split, lang = found[1].groups()
    views = [view for view, langs in VIEWS.items() if lang in langs] if across == "cross" else ["in_language"]
    for row in _rows(found, split, lang):
      for view in views:
        yield Part(view, split, row)


def _rows(found: Found, split: str, lang: str) -> Iterator[dict[str, str]]:
  for record in rows(found[0]):
    context = record.text("context")
    yield {
      "id": f"{split}-{lang}-{record.line}",
      "lang": lang,
      "group": hashlib.sha256(context.encode()).hexdigest()[:12],
      "question": record.text("question"),
      "title": record.text("title"),
      "context": context,
      "target": record.text("target"),
    }
