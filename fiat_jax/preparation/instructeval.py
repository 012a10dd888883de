"""The sets of Flacuna and INSTRUCTEVAL; what `registry.py` says of sizes, hashes and `unseen` holds here too."""

from __future__ import annotations

from fiat_jax.preparation.converters import choices, few_shot, flan_mini, writing
from fiat_jax.preparation.sets import RAW, Remote, Set

SETS = (
  Set(
    name="bbh",
    title="BIG-Bench Hard: with Codex's reasoning (view recorded), and INSTRUCTEVAL's 3 shots (few_shot)",
    remotes=(Remote("https://github.com/suzgunmirac/BIG-Bench-Hard/archive/refs/heads/main.zip", called="bbh.zip"),),
    wanted=r"bbh/\w+\.json|code-davinci-002-cot/\w+_few_shot_template_0-255000\.json",
    convert=choices.bbh,
    published={
      "recorded/all": {"": choices.BBH_ROWS},
      "few_shot/test": {"": choices.BBH_ROWS - choices.BBH_TASKS * few_shot.BBH_SHOTS},
    },
    licence="MIT",
    home="https://github.com/suzgunmirac/BIG-Bench-Hard",
    metric="accuracy; starts_with",
    reasoning="code-davinci-002's, all rows",
  ),
  Set(
    name="mmlu",
    title="MMLU with INSTRUCTEVAL's 5 shots",
    remotes=(
      Remote(
        "https://people.eecs.berkeley.edu/~hendrycks/data.tar",
        sha256="bec563ba4bac1d6aaf04141cd7d1605d7a5ca833e38f994051e818489592989b",
        called="mmlu.tar",
      ),
    ),
    wanted=r"data/(?:dev/\w+_dev|test/\w+_test)\.csv",
    convert=few_shot.mmlu,
    published={"test": {"en": few_shot.MMLU_ROWS}},
    licence="MIT",
    home="https://github.com/hendrycks/test",
    metric="starts_with; accuracy",
  ),
  Set(
    name="drop",
    title="DROP with INSTRUCTEVAL's 3 shots",
    remotes=(
      Remote(
        "https://s3-us-west-2.amazonaws.com/allennlp/datasets/drop/drop_dataset.zip",
        sha256="39d2278a29fd729de301b111a45f434c24834f40df8f4ff116d864589e3249d6",
      ),
    ),
    wanted=r"drop_dataset_dev\.json",
    convert=few_shot.drop,
    published={"": {"": few_shot.DROP_ROWS}},
    licence="CC-BY-SA-4.0",
    home="https://allenai.org/data/drop",
    metric="starts_with; f1_drop",
  ),
  Set(
    name="crass",
    title="CRASS with INSTRUCTEVAL's 3 shots",
    remotes=(
      Remote(f"{RAW}/apergo-ai/CRASS-data-set/main/CRASS_FTM_main_data_set.csv"),
      Remote(f"{RAW}/declare-lab/instruct-eval/main/crass.py"),
    ),
    convert=few_shot.crass,
    published={"test": {"en": few_shot.CRASS_ROWS}},
    licence="Apache-2.0",
    home="https://github.com/apergo-ai/CRASS-data-set",
    metric="starts_with; accuracy",
  ),
  Set(
    name="humaneval",
    title="HumanEval: functions to complete, tested by running them",
    remotes=(
      Remote(
        f"{RAW}/openai/human-eval/master/data/HumanEval.jsonl.gz",
        44_877,
        "b796127e635a67f93fb35c04f4cb03cf06f38c8072ee7cee8833d7bee06979ef",
      ),
    ),
    convert=writing.humaneval,
    published={"test": {"en": writing.HUMANEVAL_ROWS}},
    licence="MIT",
    home="https://github.com/openai/human-eval",
    metric="pass_at_1",
  ),
  Set(
    name="impact",
    title="IMPACT: texts to write, judged by a big model",
    remotes=(
      Remote("https://huggingface.co/datasets/declare-lab/InstructEvalImpact/resolve/main/data.jsonl"),
      Remote(f"{RAW}/declare-lab/instruct-eval/main/subjective.py"),
    ),
    convert=writing.impact,
    published={"test": {"": writing.IMPACT_ROWS}},
    licence="Apache-2.0",
    home="https://huggingface.co/datasets/declare-lab/InstructEvalImpact",
    metric="relevance, coherence",
  ),
  Set(
    name="flan_mini",
    title="FLAN-MINI: the view all, and one for each of its ten collections",
    remotes=tuple(
      Remote(f"https://huggingface.co/datasets/declare-lab/flan-mini/resolve/main/data/chunk_{n}.parquet")
      for n in range(10)
    ),
    convert=flan_mini.convert,
    unseen="what the column `source` calls the ten collections",
    published={"all": {"": flan_mini.ROWS}},
    licence="of each collection: see its page",
    home="https://huggingface.co/datasets/declare-lab/flan-mini",
    metric="-",
  ),
)
