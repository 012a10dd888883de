"""The published sets that `fiat prepare` makes rows of.

Addresses, file names, fields and counts are those of the sets' own pages, papers and loaders; `unseen` says what of a
set is not. A size or hash stands where TFDS records it or several public programs pin the same one for that address.
"""

from __future__ import annotations

from fiat_jax.preparation import instructeval
from fiat_jax.preparation.converters import (
  arithmetic,
  choices,
  rationales,
  reading,
  xor_attriqa,
  xtreme_up,
)
from fiat_jax.preparation.sets import RAW, Remote, Set

RATIONALES = Remote(
  "https://github.com/google-research/distilling-step-by-step/raw/main/datasets.zip", called="distilling_datasets.zip"
)
_RELEASE = "the address of datasets.zip, which its README names without one"
PALM = "PaLM 540B's, all splits"
_TYDI = "https://storage.googleapis.com/tydiqa/v1.1/tydiqa-goldp-v1.1"
_GSM8K = f"{RAW}/openai/grade-school-math/master/grade_school_math/data"
_MGSM = {
  "bn": "6b00bc7cc635547e866989284afa924d789b5affa2eb8de623c385dd943ad977",
  "de": "4dfea30fede44b813e2e496f5f0534049e83c7cc8aed6e00600b30ec62053626",
  "en": "50021d0f28cc957edcb44e7806425b1c7fbd648ddcb9e0a8ec689d10e57d40fa",
  "es": "5bd27ebdf00140cec845c5298dc17715f5cd57d8edda6df1976db40bf3f0750a",
  "fr": "36207c1c03fd7cd3ea491441eb755408199f94e4a647851df531bbaedc99d606",
  "ja": "59a2b50debe77981fd784cb3b2bef1505e3abf2a37116dc9d7a366ab029b4637",
  "ru": "6bd30fd2e80c5bac23f566fb4ae0e6a55a19578401fbf9a01fb21beb3645fef8",
  "sw": "2bac828d77229e65d7c7197b1ad4a2cb5b1fe99b163f2cbdd66501de6a2115c4",
  "te": "dd6b1452c244bb2e4ba254c01ea84137f80c1cefc57d69c23b0ed88b9c0f36b7",
  "th": "f3932dc5ad8e9d0ea82b017adc1e1461dd647af861e7166d6741986602a0cfd6",
  "zh": "b2fa63151022370a0de1f4211c8c284eae74b0f5a3b003b1d5982c0d4a73f661",
}

_SETS = (
  Set(
    name="xtreme_up",
    title="XTREME-UP question answering: cross-lingual (views indic, full, official) and in_language",
    remotes=(Remote("https://storage.googleapis.com/xtreme-up/xtreme-up-v1.1.jsonl.tgz"),),
    wanted=xtreme_up.WANTED,
    convert=xtreme_up.convert,
    published=xtreme_up.published(),
    spoken={"in_language": xtreme_up.IN_LANGUAGE},
    licence="see its page (the passages are Wikipedia's, CC-BY-SA)",
    home="https://github.com/google-research/xtreme-up",
    languages="20, 27 or 21",
    metric="f1_squad",
  ),
  Set(
    name="xor_attriqa",
    title="XOR-AttriQA: is an answer supported by its passage? (views retrieved, in_language, english)",
    remotes=(Remote("https://storage.googleapis.com/gresearch/xor_attriqa/xor_attriqa.zip"),),
    wanted=xor_attriqa.WANTED,
    convert=xor_attriqa.convert,
    unseen="whether its files end in .jsonl, and whether the validation file is val or validation: either is read",
    published=xor_attriqa.published(),
    licence="CC-BY-4.0",
    home="https://github.com/google-research/google-research/tree/master/xor_attriqa",
    languages="5",
    metric="accuracy, auc_pr",
  ),
  Set(
    name="commonsense_qa",
    title="CommonsenseQA with recorded reasoning",
    remotes=(RATIONALES,),
    wanted=rationales.wanted("cqa"),
    convert=rationales.commonsense_qa,
    unseen=_RELEASE,
    published={"train": {"en": 9_741}, "test": {"en": 1_221}},
    licence="MIT (data), Apache-2.0 (reasoning)",
    home="https://github.com/google-research/distilling-step-by-step",
    metric="accuracy",
    reasoning=PALM,
  ),
  Set(
    name="svamp",
    title="SVAMP word problems with recorded reasoning",
    remotes=(RATIONALES,),
    wanted=rationales.wanted("svamp"),
    convert=rationales.svamp,
    unseen=_RELEASE,
    published={"train": {"en": 800}, "test": {"en": 200}},
    licence="MIT (data), Apache-2.0 (reasoning)",
    home="https://github.com/google-research/distilling-step-by-step",
    metric="number",
    reasoning=PALM,
  ),
  Set(
    name="esnli",
    title="e-SNLI with recorded reasoning",
    remotes=(RATIONALES,),
    wanted=rationales.wanted("esnli"),
    convert=rationales.esnli,
    unseen=_RELEASE,
    published={"train": {"en": 549_367}, "validation": {"en": 9_842}, "test": {"en": 9_824}},
    licence="MIT (explanations), CC-BY-SA-4.0 (SNLI), Apache-2.0 (reasoning)",
    home="https://github.com/google-research/distilling-step-by-step",
    metric="accuracy",
    reasoning=PALM,
  ),
  Set(
    name="anli",
    title="ANLI, round 1, with recorded reasoning",
    remotes=(RATIONALES,),
    wanted=rationales.wanted("anli1"),
    convert=rationales.anli,
    unseen=_RELEASE,
    published={"train": {"en": 16_946}, "validation": {"en": 1_000}, "test": {"en": 1_000}},
    licence="CC-BY-NC-4.0 (data), Apache-2.0 (reasoning)",
    home="https://github.com/google-research/distilling-step-by-step",
    metric="accuracy",
    reasoning=PALM,
  ),
  Set(
    name="gsm8k",
    title="GSM8K: grade school word problems",
    remotes=(
      Remote(f"{_GSM8K}/train.jsonl", 4_166_206, "17f347dc51477c50d4efb83959dbb7c56297aba886e5544ee2aaed3024813465"),
      Remote(f"{_GSM8K}/test.jsonl", 749_738, "3730d312f6e3440559ace48831e51066acaca737f6eabec99bccb9e4b3c39d14"),
    ),
    convert=arithmetic.gsm8k,
    published={"train": {"en": 7_473}, "test": {"en": 1_319}},
    licence="MIT",
    home="https://github.com/openai/grade-school-math",
    metric="number",
  ),
  Set(
    name="mgsm",
    title="MGSM: GSM8K's problems in eleven languages",
    remotes=tuple(
      Remote(f"{RAW}/google-research/url-nlp/main/mgsm/mgsm_{lang}.tsv", sha256=sha256)
      for lang, sha256 in _MGSM.items()
    ),
    convert=arithmetic.mgsm,
    published={"test": dict.fromkeys(arithmetic.MGSM_LANGUAGES, 250)},
    licence="CC-BY-SA-4.0",
    home="https://github.com/google-research/url-nlp/tree/main/mgsm",
    languages="11",
    metric="number",
  ),
  Set(
    name="xcopa",
    title="XCOPA: causes and effects",
    remotes=(Remote("https://github.com/cambridgeltl/xcopa/archive/refs/heads/master.zip", called="xcopa.zip"),),
    wanted=r"data/\w\w/(?:val|test)\.\w\w\.jsonl",
    convert=choices.xcopa,
    published={
      "validation": dict.fromkeys(choices.XCOPA_LANGUAGES, 100),
      "test": dict.fromkeys(choices.XCOPA_LANGUAGES, 500),
    },
    licence="CC-BY-4.0",
    home="https://github.com/cambridgeltl/xcopa",
    languages="11",
    metric="accuracy",
  ),
  Set(
    name="tydi_qa",
    title="TyDi QA, gold passage",
    remotes=(
      Remote(f"{_TYDI}-train.json", 58_004_076, "cefc8e09ff2548d9b10a678d3a6bbbe5bc036be543f92418819ea676c97be23b"),
      Remote(f"{_TYDI}-dev.json", 5_617_409, "b286e0f34bc7f52259359989716f369b160565bd12ad8f3a3e311f9b0dbad1c0"),
    ),
    convert=reading.tydi_qa,
    published={"train": reading.TYDI_TRAIN, "test": reading.TYDI_TEST},
    licence="Apache-2.0 (the passages are Wikipedia's, CC-BY-SA)",
    home="https://github.com/google-research-datasets/tydiqa",
    languages="9",
    metric="f1_squad, f1_multilingual",
  ),
  Set(
    name="xorqa_in",
    title="XorQA-IN of IndicGenBench",
    remotes=(
      Remote(
        "https://github.com/google-research-datasets/indic-gen-bench/archive/refs/heads/main.zip",
        called="indic-gen-bench.zip",
      ),
    ),
    wanted=r"xorqa_in/xorqa_\w+_(?:train|dev|test)\.json",
    convert=reading.xorqa_in,
    spoken=dict.fromkeys(xtreme_up.SPLITS, xtreme_up.INDIC),
    unseen="how many rows it has, and which languages beside FIAT's twenty",
    licence="MIT",
    home="https://github.com/google-research-datasets/indic-gen-bench",
    languages="28 Indic",
    metric="f1_squad",
    reasoning="none; English questions as an oracle",
  ),
)

SETS = {known.name: known for known in (*_SETS, *instructeval.SETS)}
