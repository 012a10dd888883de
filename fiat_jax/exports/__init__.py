"""What stands beside exported weights: the proof that another program gives the same answers, prompts, a model card."""
