"""Shots in the form in which INSTRUCTEVAL's file has them; never run, only read."""

SHOTS = [
  CrassSample(  # noqa: F821
    premise="A woman opens a window.",
    question="What would have happened if the woman had opened a book?",
    options=["She could have read.", "The book would have let in the wind.", "That is not possible."],
    answer="She could have read.",
  ),
  CrassSample(  # noqa: F821
    premise="A cook boils an egg.",
    question="What would have happened if the cook had boiled the moon?",
    options=["It would have been soft.", "That is not possible.", "It would have been hard."],
    answer="That is not possible.",
  ),
  CrassSample(  # noqa: F821
    premise="A cup falls on a carpet.",
    question="What would have happened if the cup had fallen on stone?",
    options=["It would have sung.", "It would have floated.", "It might have broken."],
    answer="It might have broken.",
  ),
]


def load(premise, question, options, answer):
  return CrassSample(premise=premise, question=question, options=options, answer=answer)  # noqa: F821
