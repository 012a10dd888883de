"""INSTRUCTEVAL's prompts (Chia et al., 2023): `header`, `shots` and `question` of MMLU, BBH, DROP and CRASS.

`{header}{shots}{question}\\nAnswer:` is the prompt, and each shot `…\\nAnswer: X\\n\\n`, so that whole shots can be
left out from the last where they do not fit. `choice` and `choices` are the same answers with the blank before them, as
lm-evaluation-harness scores them by likelihood.
"""

from __future__ import annotations

import ast
import csv
import pathlib
import random
from collections.abc import Iterator, Sequence

from fiat_jax.errors import UserError
from fiat_jax.preparation.files import Files, Record, text_lines, whole_object
from fiat_jax.preparation.sets import Part

MMLU_SHOTS, BBH_SHOTS, DROP_SHOTS, CRASS_SHOTS = 5, 3, 3, 3
LETTERS = "ABCD"
MMLU_SUBJECTS, MMLU_ROWS = 57, 14_042
CRASS_ROWS = 274
DROP_ROWS = 9_536  # of the development set


def mmlu(files: Files) -> Iterator[Part]:
  """Hendrycks et al., 2021: the shots of a subject are its five rows of `dev`."""
  for file, match in files.find(r"test/(\w+)_test\.csv"):
    subject = match[1]
    dev = _mmlu_rows(files.only(rf"dev/{subject}_dev\.csv"))[:MMLU_SHOTS]
    shots = "".join(_shot(_listed(question, options), answer) for question, options, answer in dev)
    # Two blanks stand before the subject, as in the prompts that the published figures were measured with.
    header = f"The following are multiple choice questions (with answers) about  {subject.replace('_', ' ')}.\n\n"
    for number, (question, options, answer) in enumerate(_mmlu_rows(file), 1):
      row = {"id": f"{subject}-{number}", "lang": "en", "group": f"{subject}-{number}", "subject": subject}
      row |= {"header": header, "shots": shots, "question": _listed(question, options), "target": answer}
      yield Part("", "test", {**row, **_choices(answer, len(options))})


def bbh(task: str, examples: Sequence[Record]) -> Iterator[dict]:
  """The first three examples of a task are the shots of the others."""
  texts = [(example.text("input"), example.text("target")) for example in examples]
  shots = "".join(_shot(*text) for text in texts[:BBH_SHOTS])
  for number, (question, target) in enumerate(texts[BBH_SHOTS:], BBH_SHOTS + 1):
    row = {"id": f"{task}-{number}", "group": f"{task}-{number}", "task": task, "header": "", "shots": shots}
    yield {**row, "question": question, "target": target}


def drop(files: Files) -> Iterator[Part]:
  """Dua et al., 2019: rows of the development set whose answers are one and the same text; three drawn as shots.

  The others, and rows on the passages of the shots, stand in the part `left_out`.
  """
  samples, others = [], []
  for section, content in whole_object(files.only(r"drop_dataset_dev\.json")).items():
    if not isinstance(content, dict):
      raise UserError(f"the section {section!r} is no object: it is not the format of the set", files.folder)
    passage = Record(content, files.folder, None)
    for pair in passage.inner("qa_pairs"):
      spans = _drop_spans(pair)
      question = f"{passage.text('passage').strip()} {pair.text('question').strip()}"
      sample = (section, pair.text("query_id"), question, spans, passage.text("passage"))
      (samples if len(set(spans)) == 1 else others).append(sample)
  if len(samples) < DROP_SHOTS:
    raise UserError(f"has {len(samples)} rows with one span, and {DROP_SHOTS} are the shots", files.folder)
  drawn = random.Random(0).sample(samples, DROP_SHOTS)
  shots = "".join(_shot(question, spans[0]) for _, _, question, spans, _ in drawn)
  seen = {passage for *_, passage in drawn}
  for section, identity, question, spans, passage in (*samples, *others):
    row = {"id": identity, "lang": "en", "group": section, "header": "", "question": question}
    if len(set(spans)) == 1 and passage not in seen:
      yield Part("", "test", {**row, "shots": shots, "target": spans[0]})
    else:
      yield Part("", "left_out", {**row, "shots": "", "target": spans})


def crass(files: Files) -> Iterator[Part]:
  """Frohberg and Binder, 2022: the first option is the right one, and all are shuffled.

  The three shots, of the paper, are read out of INSTRUCTEVAL's own file, which is never run.
  """
  shots = "".join(_shot(*_crass(sample)) for sample in _crass_shots(files.only(r"crass\.py")))
  file, draw = files.only(r"CRASS_FTM_main_data_set\.csv"), random.Random(0)
  for line, text in list(text_lines(file))[1:]:
    cells = text.strip().split(";")
    if len(cells) < 6:
      raise UserError(
        f"has {len(cells)} cells, and at least 6 are expected: it is not the format of the set", file, line
      )
    options = [cell.strip() for cell in cells[4:8] if cell.strip()]
    if len(options) < 2 or not cells[4].strip():
      raise UserError("has no right option and another: it is not the format of the set", file, line)
    answer = options[0]
    draw.shuffle(options)
    question, label = _crass({"premise": cells[2], "question": cells[3], "options": options, "answer": answer})
    row = {"id": str(line - 1), "lang": "en", "group": cells[2].strip(), "header": "", "shots": shots}
    yield Part("", "test", {**row, "question": question, "target": label, **_choices(label, len(options))})


def _shot(question: str, answer: str) -> str:
  return f"{question}\nAnswer: {answer}\n\n"


def _listed(question: str, options: Sequence[str]) -> str:
  return "\n".join([question, *(f"{letter}. {option}" for letter, option in zip(LETTERS, options, strict=False))])


def _choices(answer: str, count: int) -> dict:
  return {"choice": f" {answer}", "choices": [f" {letter}" for letter in LETTERS[:count]]}


def _mmlu_rows(file: pathlib.Path) -> list[tuple[str, list[str], str]]:
  """Question, options and letter of each row of a file without a header."""
  found = []
  csv.field_size_limit(2**31 - 1)  # one that is too long is no reason to stop
  try:
    with file.open(encoding="utf-8", newline="") as handle:
      for cells in csv.reader(handle):
        if len(cells) != 6 or cells[5] not in tuple(LETTERS):
          raise UserError(f"row {len(found) + 1} is no question, four options and a letter of them", file)
        found.append((cells[0], cells[1:5], cells[5]))
  except (UnicodeDecodeError, csv.Error) as e:
    raise UserError(f"is no CSV that can be read ({str(e)[:100]}): fetch it again", file) from None
  return found


def _drop_spans(pair: Record) -> list[str]:
  """The texts that the annotators of the development set gave: spans, a number or a date.

  None where one of them is two kinds at once: INSTRUCTEVAL reads the set through the Hub, which leaves out such rows.
  """
  spans: list[str] = []
  for answer in pair.inner("validated_answers"):
    given, texts = answer.get("date") or {}, answer.get("spans") or []
    if not isinstance(given, dict) or not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
      raise answer.fault("the fields 'date' and 'spans' are no object and no list of texts")
    date = " ".join(str(given.get(part, "")) for part in ("day", "month", "year")).strip()
    kinds = [texts, [str(answer["number"])] if answer.get("number") else [], [date] if date else []]
    if sum(map(bool, kinds)) > 1:
      return []
    spans += next(filter(None, kinds), [])
  return [text.strip() for text in spans]


def _crass(sample: dict) -> tuple[str, str]:
  """A sample's question with its options, and the letter of the right one."""
  question = f"{sample['premise'].strip()} {sample['question'].strip()}"
  return _listed(question, sample["options"]), LETTERS[sample["options"].index(sample["answer"])]


def _crass_shots(file: pathlib.Path) -> list[dict]:
  """The keyword arguments of every call `CrassSample(…)` that are plain values."""
  try:
    calls = [node for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))) if isinstance(node, ast.Call)]
  except (SyntaxError, ValueError, RecursionError, MemoryError):
    raise UserError("is no Python that can be read: fetch it again", file) from None
  calls = sorted(
    (call for call in calls if getattr(call.func, "id", "") == "CrassSample"), key=lambda call: call.lineno
  )
  shots = [shot for call in calls if (shot := _plain_words(call))]
  if len(shots) != CRASS_SHOTS or not all(map(_is_shot, shots)):
    raise UserError(f"holds {len(shots)} shots CrassSample(…), and {CRASS_SHOTS} are expected: another version", file)
  return shots


def _is_shot(words: dict) -> bool:
  if set(words) != {"premise", "question", "options", "answer"} or not isinstance(words["options"], list):
    return False
  texts = [words["premise"], words["question"], *words["options"]]
  return all(isinstance(text, str) for text in texts) and words["answer"] in words["options"][: len(LETTERS)]


def _plain_words(call: ast.Call) -> dict | None:
  try:
    return {word.arg: ast.literal_eval(word.value) for word in call.keywords}
  except ValueError:
    return None  # made of variables: it reads the data set
