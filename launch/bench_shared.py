"""What it saves to compute the shots of a subject once, where choices are scored: rows in MMLU's shape, 5 shots each.

`python launch/bench_shared.py --model smollm2_135m_instruct --rows 40 --turns 3` scores the letters of the same rows
with the shared beginning and without, turn about, compiled before, and prints the medians of seconds a row.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import random
import statistics
import tempfile
import time

from fiat_jax.configuration import configure
from fiat_jax.evaluation import evaluate, shared
from fiat_jax.workbench import Workbench

SUBJECTS, SHOTS = ("geography", "history"), 5
WORDS = ("which", "of", "these", "towns", "lies", "by", "the", "river", "that", "flows", "through", "old", "country")


def question(draw: random.Random) -> str:
  asked = " ".join(draw.choices(WORDS, k=draw.randint(15, 45))).capitalize()
  options = [f"{letter}. {' '.join(draw.choices(WORDS, k=draw.randint(1, 8)))}" for letter in "ABCD"]
  return "\n".join([f"{asked}?", *options])


def rows(count: int) -> list[dict]:
  draw, found = random.Random(0), []
  for subject in SUBJECTS:
    shots = "".join(f"{question(draw)}\nAnswer: {draw.choice('ABCD')}\n\n" for _ in range(SHOTS))
    header = f"The following are multiple choice questions (with answers) about  {subject}.\n\n"
    for number in range(count // len(SUBJECTS)):
      row = {"id": f"{subject}-{number}", "header": header, "shots": shots, "question": question(draw)}
      found.append({**row, "choice": f" {draw.choice('ABCD')}", "choices": [" A", " B", " C", " D"]})
  return found


def main() -> None:
  asked = argparse.ArgumentParser(description=__doc__)
  asked.add_argument("--model", default="smollm2_135m_instruct")
  asked.add_argument("--rows", type=int, default=40)
  asked.add_argument("--turns", type=int, default=3)
  given = asked.parse_args()
  with tempfile.TemporaryDirectory() as folder:
    file = pathlib.Path(folder) / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows(given.rows)))
    flags = {"TEST": str(file), "MODEL": given.model, "RECIPES": "untuned_without_reasoning", "MODEL_DIR": folder}
    configuration = configure(["gin/tasks/mmlu_likelihood.gin"], [], flags)
    recipe = configuration.recipe("untuned_without_reasoning")
    bench = Workbench(configuration)
    bench.prepare([recipe])
    engine, tokenizer = bench.models.engine(recipe), bench.models.of(recipe).tokenizer
    found, shard = bench.shards.read("test", recipe)[:], bench.shards.of("test", recipe)
    groups = [(len(group.rows), group.shared) for group in shared.grouped(shard)]
    print(f"prompts of {shard.lengths('inputs').mean():.0f} tokens; rows and shared tokens of each group: {groups}")
    least, seconds = shared.LEAST, {"whole": [], "shared": []}
    for turn in range(given.turns + 1):
      for name, smallest in (("whole", 10**9), ("shared", least)):
        shared.LEAST = smallest
        began = time.monotonic()
        evaluate.choose_label(engine, tokenizer, found, shard, on_done=lambda: None)
        if turn:  # the first compiles
          seconds[name].append((time.monotonic() - began) / len(found))
    medians = {name: statistics.median(times) for name, times in seconds.items()}
    print({name: [round(t, 3) for t in times] for name, times in seconds.items()})
    whole, once = medians["whole"], medians["shared"]
    print(f"whole {whole:.3f} s a row, shared {once:.3f}: {whole / once:.1f} times as fast")


if __name__ == "__main__":
  main()
