"""SeqIO tasks over MMLU, of rows that `fiat prepare mmlu` has made: `mmlu_fine_tuning`."""

from fiat_jax.data.shipped_tasks import register

TASKS = register("mmlu")
