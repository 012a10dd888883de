"""The page's tables of recipes, languages, rows and answers, and those in the paper's shapes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from fiat_jax.evaluation.report import FAULTS
from fiat_jax.evaluation.verdict import SHOWN
from fiat_jax.report import ablation
from fiat_jax.report.languages import LanguageScore
from fiat_jax.report.results import Comparison
from fiat_jax.report.rows import Crossed
from fiat_jax.report.table import NONE, Cell, Table, difference, interval, number
from fiat_jax.report.unaided import Unaided


def recipes(comparison: Comparison, sure: str) -> Table:
  """A row a recipe: what it scores, how sure that is, what it takes. `sure` is what intervals are called."""
  metric, *others = comparison.metrics
  pick = comparison.pick
  columns = ["recipe", f"{metric} on test", sure]
  columns += [f"above {pick.title}", "p"] if pick else []
  timed = any(result.seconds is not None for result in comparison.results)
  paid = any(result.money for result in comparison.results)
  alone = any(result.latency("p50") is not None for result in comparison.results)
  columns += [*others, f"{metric} on validation", *["seconds per 1,000"] * timed, *["money per 1,000"] * paid]
  columns += ["seconds, p50", "seconds, p95"] * alone
  columns += ["tuned parameters", "no whole answer"]
  rows = []
  for result in comparison.results:
    test, validation = result.test, result.record.get("validation")
    cells = [Cell(text=result.title), number(test["overall"][metric]), interval(result.interval)]
    if pick:
      pair = None if result is pick else comparison.pair(result, pick)
      cells += [number(pair["difference"], "+z.1f"), number(pair["p"], ".2g")] if pair else [Cell(text=NONE)] * 2
    cells += [number(test["overall"][name]) for name in others]
    cells += [number(validation["overall"][metric] if validation else None)]
    cells += [number(result.seconds, ".3g")] * timed + [number(result.money, ".3g")] * paid
    cells += [number(result.latency(quantile), ".3g") for quantile in ("p50", "p95")] * alone
    cells += [number(result.record.get("tuned_parameters"), ",")]
    rows.append([*cells, number(round(sum(test[fault] for fault in FAULTS), 1), "g")])
  notes = ["Overall scores are plain means over languages."] if len(comparison.languages) > 1 else []
  if timed:
    notes.append(_of_seconds(comparison))
  if alone:
    notes.append(
      "Seconds, p50 and p95: of one answer at a time, by the tuned model, and of an endpoint's as they came, several "
      "at a time; half, and one in 20, take longer. Where both models answer, the sum of the two."
    )
  if paid:
    notes.append("Money: what the big model's answers cost, as their store says; the tuned model runs at home, for 0.")
  return Table(name="recipes", caption="Every recipe", columns=columns, rows=rows, notes=notes)


def _of_seconds(comparison: Comparison) -> str:
  """What is in them, and what is not."""
  said = "Seconds: the tuned model's on the machine of this run, without compiling"
  if any(result.beta_seconds is not None for result in comparison.results):
    said += ", and the big model's as its endpoint took them, one request after another"
  lacking = [result.title for result in comparison.results if result.lacks_beta_seconds]
  return said + (f"; the big model's are not known, and left out, for {', '.join(lacking)}." if lacking else ".")


def languages(comparison: Comparison, found: Mapping[str, Mapping[str, LanguageScore]], few: Sequence[str]) -> Table:
  """The shape of the paper's Tables 6 to 8."""
  langs = list(found)
  rows = []
  for result in comparison.results:
    cells = [Cell(text=result.title), number(result.test["overall"][comparison.metric])]
    rows.append([*cells, *(_of_language(found[lang][result.name]) for lang in langs)])
  notes = []
  if any(cell.mark for row in rows for cell in row) and comparison.pick:
    notes.append(f"* differs from {comparison.pick.title} on that language (Holm's correction over the whole table).")
  elif comparison.pick and len(few) < len(langs):
    notes.append("No language's rows show a difference from the pick (Holm's correction over the whole table).")
  if few:
    notes.append(f"Too few groups of rows for any claim: {', '.join(few)}.")
  return Table(
    name="by-language",
    caption=f"{comparison.metric} on test by language",
    columns=["recipe", "mean", *langs],
    rows=rows,
    notes=notes,
  )


def _of_language(of: LanguageScore) -> Cell:
  return Cell(text=f"{of.score:.1f}{'*' if of.differs else ''}", by=of.score, mark="differs" if of.differs else "")


def kinds(comparison: Comparison) -> Table | None:
  """The shape of the paper's Table 2; None where there is nothing to set side by side."""
  found = ablation.kinds(comparison)
  if len(found) < 2:
    return None
  metrics = comparison.metrics
  rows = [
    [Cell(text=kind.called), Cell(text=kind.best.title), *(number(kind.best.test["overall"][m]) for m in metrics)]
    for kind in found
  ]
  notes = ["Of several recipes of a kind, the one that validation prefers."]
  if baseline := ablation.best_baseline(comparison, found):
    fiat = found[-1].best
    gained = [fiat.test["overall"][m] - baseline.test["overall"][m] for m in metrics]
    rows.append([Cell(text="gain over the best baseline"), Cell(text=f"against {baseline.title}")])
    rows[-1] += [number(value, "+z.1f") for value in gained]
    notes.append("The best baseline is chosen on validation too; the paper chose it on test, which flatters it.")
  columns = ["way of learning", "recipe", *metrics]
  return Table(
    name="kinds", caption="In-context learning, fine-tuning, FIAT (Table 2)", columns=columns, rows=rows, notes=notes
  )


def ladder(comparison: Comparison, sure: str) -> Table | None:
  """The shape of the paper's Table 3; None with a single rung."""
  rungs = ablation.ladder(comparison)
  if sum(rung.result is not None for rung in rungs) < 2:
    return None
  rows, above = [], None
  for rung in rungs:
    cells = [Cell(text=rung.called), Cell(text=rung.title)]
    if rung.result:
      cells += [number(rung.result.test["overall"][comparison.metric])]
      cells += difference(comparison.pair(rung.result, above) if above else None)
      above = rung.result
    else:
      cells += [Cell(text=rung.missing), *[Cell(text=NONE)] * 3]
    rows.append(cells)
  columns = ["removed so far", "recipe", f"{comparison.metric} on test", "to the one above", sure, "p"]
  notes = ["Each removal adds to those above it; differences are to the nearest rung above that was run."]
  return Table(name="ladder", caption="FIAT, taken apart (Table 3)", columns=columns, rows=rows, notes=notes)


def crossed(found: Crossed, total: int) -> Table:
  """Two by two: the big model's own answer, and the tuned model's that has read it."""

  def cell(count: float) -> Cell:
    return Cell(text=f"{round(count, 1):g} ({100 * count / total:.0f} %)", by=count)

  rows = [
    [Cell(text="the big model is right"), cell(found.both), cell(found.beta_alone)],
    [Cell(text="the big model is wrong"), cell(found.tuned_alone), cell(found.neither)],
  ]
  title = found.tuned.title
  columns = ["", f"{title} is right", f"{title} is wrong"]
  return Table(name=f"crossed-{found.tuned.name}", caption=f"{title} and the big model", columns=columns, rows=rows)


def unaided(comparison: Comparison, found: Sequence[Unaided], sure: str) -> Table:
  """The tuned models with the reasoning left out."""
  rows = []
  for one in found:
    other, metric = one.trained_without, comparison.metric
    cells = [Cell(text=one.result.title), number(one.result.test["overall"][metric]), number(one.score)]
    cells += [number(one.difference, "+z.1f"), interval(one.interval), number(one.p, ".2g")]
    rows.append([*cells, number(other.test["overall"][metric] if other else None)])
  columns = ["recipe", "with reasoning", "left out", "change", sure, "p", "trained without"]
  caption = f"{comparison.metric} on test where the big model is unavailable"
  note = "Trained without: the recipe that differs in nothing but having learned without reasoning."
  return Table(name="unaided", caption=caption, columns=columns, rows=rows, notes=[note])


def pairs(comparison: Comparison, sure: str) -> Table | None:
  """Every pair, those with the pick first."""
  if not comparison.verdict:
    return None
  rows = []
  for pair in comparison.verdict["pairs"]:
    first, second = comparison.result(pair["first"]), comparison.result(pair["second"])
    own = comparison.verdict.get("apart", True) and comparison.verdict["pick"] in (first.name, second.name)
    cells = [Cell(text=first.title), Cell(text=second.title), *difference(pair)]
    rows.append([*cells, Cell(text="" if own else "Holm"), number(pair["could_show"])])
  columns = ["recipe", "against", "difference", sure, "p", "corrected", "could show"]
  note = f"Could show: the true difference that rows like these would show most times; {SHOWN:g} points is a usual aim."
  return Table(name="pairs", caption="Every pair of recipes on test", columns=columns, rows=rows, notes=[note])


def rows(comparison: Comparison) -> Table | None:
  """How many rows each split has, by language."""
  if not comparison.rows:
    return None
  langs = sorted({lang for counts in comparison.rows.values() for lang in counts})
  found = [
    [Cell(text=split), number(sum(counts.values()), ","), *(number(counts.get(lang, 0), ",") for lang in langs)]
    for split, counts in comparison.rows.items()
  ]
  return Table(name="rows", caption="Rows of each split, by language", columns=["split", "all", *langs], rows=found)


def labels(comparison: Comparison) -> Table | None:
  """How many rows of each split have which label."""
  if not comparison.labels:
    return None
  names = list(dict.fromkeys(label for counts in comparison.labels.values() for label in counts))
  found = [
    [Cell(text=split), *(number(counts.get(name, 0), ",") for name in names)]
    for split, counts in comparison.labels.items()
  ]
  return Table(name="labels", caption="Rows of each split, by label", columns=["split", *names], rows=found)


def tokens(comparison: Comparison) -> Table | None:
  """How long prompts and targets are in each recipe's form."""
  known = [result for result in comparison.results if "tokens" in result.record]
  found = [
    [Cell(text=result.title), *(number(of, ",") for what in result.record["tokens"].values() for of in what.values())]
    for result in known
  ]
  if not found:
    return None
  quantiles = known[0].record["tokens"]["inputs"]
  columns = ["recipe", *(f"{what}, {name}" for what in ("prompt", "target") for name in quantiles)]
  return Table(name="tokens", caption="Tokens of the rows, all splits together", columns=columns, rows=found)


def faults(comparison: Comparison) -> Table:
  """Answers that are none, and rows of which a column was cut."""
  cut = any("truncated" in result.record for result in comparison.results)
  found = []
  for result in comparison.results:
    cells = [Cell(text=result.title)] + [
      number(round(result.test[k], 1), "g") for k in ("empty", "unfinished", "unparsed")
    ]
    cells += [number(result.record.get("truncated", {}).get("test"), ",")] if cut else []
    found.append(cells)
  columns = ["recipe", "empty", "unfinished", "unparsed", *["input cut"] * cut]
  return Table(name="faults", caption="Answers to test rows that are no whole answer", columns=columns, rows=found)
