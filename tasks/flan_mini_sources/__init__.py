"""FLAN-MINI put together from its sources: sets of TFDS, of the Hub, and the rest out of `fiat prepare flan_mini`.

`flan_mini_sources` mixes them over bytes, `flan_mini_sources_t5` over T5's SentencePiece file. A collection weighs what
it has rows in FLAN-MINI (the paper's Table 1), whatever it is made of; within it a source weighs its rows, of which no
more than `CAP` count, as in FLAN (Wei et al., 2022). Each source of TFDS has several templates; of each, and of the
other sources as they are, there is a task without exemplars and one with. Nothing is fetched before examples are asked
for. Which rows FLAN-MINI drew of these sets is not published: `tasks.flan_mini` is the mixture of its own release.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import seqio
import tensorflow as tf

from fiat_jax import prompts
from fiat_jax.data import tfds_tasks
from fiat_jax.data.features import rows_task
from fiat_jax.data.row import Layout
from fiat_jax.data.task_vocabularies import BYTES, T5
from fiat_jax.data.tfds_tasks import TfdsSet, joined, labelled
from fiat_jax.preparation.converters.flan_mini import SIZES

CAP = 30_000
SHOTS = 2
TRAIN = {"train": "train"}
Text = Callable[[Any], Any]


class Source(NamedTuple):
  """A set of TFDS (`name:version`) with its templates, or rows by the name that `--train` takes, which need none.

  `rows` are those of its training split, as its own page has them.
  """

  name: str
  rows: int
  templates: Sequence[str] = ()
  target: Text | None = None


def _choice(names: Sequence[str], label: str, first: int = 0) -> Text:
  """The text of the right one of several features."""
  return lambda example: tf.stack([example[name] for name in names])[tf.cast(example[label], tf.int32) - first]


YES_NO = labelled("no", "yes")
ENTAILED = labelled("yes", "no")
NLI = labelled("yes", "it is not possible to tell", "no")
NLI_TEMPLATES = (
  "{premise}\n\nDoes it follow that '{hypothesis}'? Say yes, no, or it is not possible to tell.",
  "Premise: {premise}\nHypothesis: {hypothesis}\nIs the hypothesis true (yes, no, it is not possible to tell)?",
)
FLAN2021 = (
  Source("anli/r1:0.1.0", 16_946, tuple(t.replace("{premise}", "{context}") for t in NLI_TEMPLATES), NLI),
  Source("glue/mnli:2.0.0", 392_702, NLI_TEMPLATES, NLI),
  Source(
    "super_glue/rte:1.0.2",
    2_490,
    (
      '{premise}\n\nDoes it follow that "{hypothesis}"? Say yes or no.',
      'Read this: {premise}\nIs it then true that "{hypothesis}" (yes or no)?',
    ),
    ENTAILED,
  ),
  Source(
    "super_glue/boolq:1.0.2",
    9_427,
    ("{passage}\n\nYes or no: {question}?", "Answer {question} with yes or no, going by this text.\n\n{passage}"),
    YES_NO,
  ),
  Source(
    "super_glue/copa:1.0.2",
    400,
    (
      "{premise} What was the {question}: {choice1} Or: {choice2}",
      "Which is the likelier {question} of what is told?\n{premise}\n- {choice1}\n- {choice2}",
    ),
    _choice(("choice1", "choice2"), "label"),
  ),
  Source(
    "glue/sst2:2.0.0",
    67_349,
    ('Is "{sentence}" said of a film one likes? Say yes or no.', "Review: {sentence}\nDid they enjoy it (yes or no)?"),
    YES_NO,
  ),
  Source(
    "piqa:1.0.0",
    16_113,
    ("{goal}\nHow is it done: {sol1}\nOr: {sol2}", "Choose what works.\nAim: {goal}\n- {sol1}\n- {sol2}"),
    _choice(("sol1", "sol2"), "label"),
  ),
  Source(
    "ag_news_subset:1.0.0",
    120_000,
    (
      "{title}. {description}\nIs this news of the world, of sports, of business, or of science and technology?",
      "{description}\n\nName this article's subject: world, sports, business, science and technology.",
    ),
    labelled("world", "sports", "business", "science and technology"),
  ),
  Source(
    "squad/v1.1:3.0.0",
    87_599,
    ("{context}\n\n{question}", "Find the answer to '{question}' in this passage.\n\n{context}"),
    lambda example: example["answers"]["text"][0],
  ),
)
COT = (
  Source(
    "gsm8k:1.0.0",
    7_473,
    ("{question}\nThink step by step.", "Work this out, a step a line, then give the number.\n\n{question}"),
    lambda example: example["answer"],
  ),
  Source(
    "esnli:0.1.0",
    549_367,
    tuple(f"{template} Say why." for template in NLI_TEMPLATES),
    lambda example: tf.strings.join([example["explanation_1"], " So: ", NLI(example)]),
  ),
)
COLLECTIONS = {
  "flan2021": FLAN2021,
  "cot": COT,
  "gpt4_alpaca": (Source("hf:vicgalle/alpaca-gpt4:train", 52_002),),
  "code_alpaca": (Source("hf:sahil2801/CodeAlpaca-20k:train", 20_022),),
}
COLLECTIONS |= {
  name: (Source(f"prepared:flan_mini/{name}:train", size),) for name, size in SIZES.items() if name not in COLLECTIONS
}


def weights(sources: Sequence[Source], size: float) -> list[float]:
  """What each source of a collection of this size weighs."""
  counted = [min(source.rows, CAP) for source in sources]
  return [size * count / sum(counted) for count in counted]


def register(prefix: str, vocabulary: seqio.Vocabulary) -> seqio.Mixture:
  """Registers the tasks of all sources and their mixture, which is called `prefix`."""
  made = []
  for collection, sources in COLLECTIONS.items():
    for source, weight in zip(sources, weights(sources, SIZES[collection]), strict=True):
      names = list(_register(f"{prefix}_{collection}", source, vocabulary))
      made += [(name, weight / len(names)) for name in names]
  return seqio.MixtureRegistry.add(prefix, made)


def _register(prefix: str, source: Source, vocabulary: seqio.Vocabulary) -> Iterator[str]:
  """Registers a source's tasks, and gives their names."""
  called = (
    prefix if source.target is None else f"{prefix}_{source.name.split(':')[0].replace('/', '_').replace('.', '')}"
  )
  for number, template in enumerate(source.templates or ("",)):
    for shots in (0, SHOTS):
      name = called + (f"_{number}" if template else "") + ("_shots" if shots else "")
      if source.target is None:
        plain, files = prompts.parse("{x}"), {"train": source.name}
        rows_task(name, files, Layout(), plain, inputs=vocabulary, targets=vocabulary, shots=shots, counted=False)
      else:
        known = TfdsSet(name=source.name, splits=TRAIN, x=joined(template), target=source.target)
        tfds_tasks.register(name, known, "{x}", vocabulary, shots=shots)
      yield name


MIXTURES = [
  register("flan_mini_sources", BYTES),
  register("flan_mini_sources_t5", T5),
]
