"""SeqIO tasks over XorQA-IN, of rows that `fiat prepare xorqa_in` has made: `xorqa_in_fine_tuning`."""

from fiat_jax.data.shipped_tasks import register

TASKS = register("xorqa_in")
