"""SeqIO tasks over HumanEval, of rows that `fiat prepare humaneval` has made: `humaneval_fine_tuning`."""

from fiat_jax.data.shipped_tasks import register

TASKS = register("humaneval")
