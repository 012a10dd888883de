"""Scorers against what the official scripts gave for the same texts (MLQA's, DROP's, scikit-learn's)."""

import pytest

from fiat_jax.errors import UserError
from fiat_jax.evaluation import drop, metrics, numbers, ranking

# (prediction, target, language): F1 and exact match of MLQA's evaluation script, version 1.0.
MLQA = {
  ("1987年。", "1987年", "zh"): (100.0, 100.0),
  ("一九八七年", "1987年", "zh"): (200 / 7, 0.0),
  ("在北京市", "北京", "zh"): (200 / 3, 0.0),
  ("Beijing, 北京!", "北京", "zh"): (80.0, 0.0),
  ("गंगा नदी।", "गंगा नदी", "hi"): (100.0, 100.0),
  ("१९८७", "1987", "hi"): (0.0, 0.0),
  ("१९८७ में।", "१९८७", "hi"): (200 / 3, 0.0),
  ("القاهرة", "قاهرة", "ar"): (100.0, 100.0),
  ("في القاهرة،", "القاهرة", "ar"): (200 / 3, 0.0),
  ("die Donau", "Donau", "de"): (100.0, 100.0),
  ("der Fluss Donau", "die Donau", "de"): (200 / 3, 0.0),
  ("El río Nilo.", "Nilo", "es"): (200 / 3, 0.0),
  ("¿el Nilo?", "Nilo", "es"): (100.0, 100.0),
  ("Sông Hồng", "của sông Hồng", "vi"): (100.0, 100.0),
  ("the Nile", "Nile", "en"): (100.0, 100.0),
  ("“No Answer”", "No Answer", "en"): (100.0, 100.0),
  ("no", "No Answer", "en"): (200 / 3, 0.0),
  ("", "", "en"): (0.0, 100.0),
  ("", "Nile", "hi"): (0.0, 0.0),
  ("U.S.", "US", "en"): (100.0, 100.0),
  ("！？", "北京", "zh"): (0.0, 0.0),
}

# (prediction, target): exact match and F1 of DROP's evaluation script, as lm-evaluation-harness has it.
DROP = {
  ("12", "12.0"): (100.0, 100),
  ("$12,", "12"): (100.0, 100),
  ("12-yard", "12 yard"): (100.0, 100),
  ("1,234", "1234"): (100.0, 100),
  ("the Bears", "Bears"): (100.0, 100),
  ("Chicago Bears", "Bears"): (0.0, 67),
  ("3 yards", "4 yards"): (0.0, 0),
  ("in 1987", "1987"): (0.0, 67),
  ("1987.", "1987"): (100.0, 100),
  ("twelve", "12"): (0.0, 0),
  ("", "Bears"): (0.0, 0),
  ("", "the"): (100.0, 100),
  ("Tom-Brady", "brady tom"): (0.0, 100),
  ("१२", "12"): (100.0, 100),
  (".5", "0.5"): (100.0, 100),
  ("a b c d e", "c"): (0.0, 40),
  ("No Answer", "No Answer"): (100.0, 100),
}

# What XTREME-UP's scorer makes of the same: English alone, so a mark of another script makes a word another word.
SQUAD = {
  ("1987年。", "1987年"): 0.0,
  ("गंगा नदी।", "गंगा नदी"): 50.0,
  ("القاهرة", "قاهرة"): 0.0,
  ("১৯৮৭", "1987"): 0.0,
  ("“No Answer”", "No Answer"): 0.0,
  ('"No Answer".', "No Answer"): 100.0,
  ("noanswer", "No Answer"): 0.0,
  ("answer: no", "No Answer"): 100.0,
  ("", "No Answer"): 0.0,
  ("the a an", "The"): 0.0,
  ("Anna", "an Anna"): 100.0,
}

NUMBERS = {
  ("So 3 + 4 = 7. The answer is 7.", "7"): 100.0,
  ("1,234", "1234"): 100.0,
  ("42", "42.0"): 100.0,
  ("$3.50 each", "3.5"): 100.0,
  ("১২", "12"): 100.0,
  ("٣٫٥", "3.5"): 100.0,
  ("in 2010-2015", "2015"): 100.0,
  ("-5", "5"): 0.0,
  ("−5", "-5"): 100.0,
  ("seven", "7"): 0.0,
  ("", "0"): 0.0,
  ("7 or 8", "7"): 0.0,
  ("( 84 / 2 )", "42"): 100.0,
  ("(84 / 2) coins", "42"): 0.0,
  ("-(3 - 10.5) * 2", "15"): 100.0,
  ("1 / 0", "0"): 100.0,
  ("9 ** 9", "9"): 100.0,
}


@pytest.mark.parametrize("case", MLQA, ids=str)
def test_multilingual_scores_are_mlqas(case):
  assert metrics.f1_multilingual(*case) == pytest.approx(MLQA[case][0])
  assert metrics.exact_match_multilingual(*case) == MLQA[case][1]


def test_multilingual_scores_know_english_answers_and_split_japanese():
  assert metrics.exact_match_multilingual("the Nile", "Nile", "bn") == 100
  assert metrics.exact_match_multilingual("die Hard", "Hard", "bn") == 0
  assert metrics.f1_multilingual("東京タワー", "東京", "ja") == pytest.approx(400 / 7)
  assert metrics.exact_match_multilingual("el Nilo", "Nilo", "es-419") == 100


@pytest.mark.parametrize("case", DROP, ids=str)
def test_drops_scores_are_the_official_ones(case):
  assert drop.exact_match_drop(*case) == DROP[case][0]
  assert drop.f1_drop(*case) == pytest.approx(DROP[case][1])


@pytest.mark.parametrize("case", SQUAD, ids=str)
def test_xtreme_up_scores_are_squads(case):
  assert metrics.f1_squad(*case) == pytest.approx(SQUAD[case])


@pytest.mark.parametrize("case", NUMBERS, ids=str)
def test_the_last_number_counts(case):
  assert numbers.number(*case) == NUMBERS[case]


def test_instructeval_wants_the_beginning_letter_by_letter():
  assert metrics.starts_with("  B. because", "B") == 100 and metrics.starts_with("\n(A)", "(A)") == 100
  assert metrics.starts_with("b", "B") == 0 and metrics.starts_with("The answer is B", "B") == 0
  assert metrics.starts_with("145", "14") == 100, "so it is defined: a longer number passes"
  assert metrics.starts_with("", "B") == 0


AREAS = [
  # which rows are positive, their scores, scikit-learn's average_precision_score
  ((1, 1, 0, 0), (0.9, 0.8, 0.3, 0.1), 1.0),
  ((0, 0, 1, 1), (0.9, 0.8, 0.3, 0.1), 0.41666666666666663),
  ((1, 0, 1, 0, 1), (0.5, 0.5, 0.5, 0.5, 0.5), 0.6),
  ((1, 0, 1, 0, 1, 0), (0.9, 0.7, 0.7, 0.7, 0.2, 0.1), 0.7),
  ((0, 1, 0, 1), (-3.5, -1.0, 2.0, -1.0), 0.6666666666666666),
]


@pytest.mark.parametrize("case", AREAS, ids=str)
def test_average_precision_is_scikit_learns(case):
  positive, scores, area = case
  assert ranking.average_precision(positive, scores) == pytest.approx(area)


def test_auc_pr_goes_by_the_difference_of_two_labels():
  rows = [{"False": -0.1, "True": -2.0}, {"False": -3.0, "True": -0.5}, {"False": -1.0, "True": -1.1}]
  assert ranking.auc_pr(rows, [("False",), ("True",), ("False",)]) == pytest.approx(100.0)
  assert ranking.auc_pr(rows, [("True",), ("False",), ("False",)]) == pytest.approx(100 / 3)
  assert ranking.auc_pr([{"yes": -0.1, "no": -2.0}], [("yes",)]) == pytest.approx(100.0), "the first label is positive"
  assert ranking.auc_pr(rows, [("False",)] * 3) is None, "without positive rows there is no recall"
  assert ranking.auc_pr([None], [("True",)]) is None, "a text has no score"
  with pytest.raises(UserError, match="a row has 3"):
    ranking.auc_pr([{"a": 0.0, "b": 0.0, "c": 0.0}], [("a",)])


def test_auc_pr_is_never_the_first_metric_nor_without_choices():
  metrics.check(("accuracy", "auc_pr"))
  with pytest.raises(UserError, match="put accuracy before it"):
    metrics.check(("auc_pr",))
  with pytest.raises(UserError, match="give --labels"):
    metrics.check(("accuracy", "auc_pr"), labels=False)
