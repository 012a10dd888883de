# A file in the form of INSTRUCTEVAL's; what is asked here is this project's own.
def score_answers(mode):
  if mode == "relevance":
    template = """Text: {text}

Asked for: {prompt}

Does the text do what was asked for? Give a number from 1 (not at all) to 5 (in every way)."""
  elif mode == "coherence":
    template = """Text: {text}

Does the text hang together? Give a number from 1 (not at all) to 5 (in every way)."""
  return template
