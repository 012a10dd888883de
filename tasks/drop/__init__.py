"""SeqIO tasks over DROP, of rows that `fiat prepare drop` has made: `drop_fine_tuning`."""

from fiat_jax.data.shipped_tasks import register

TASKS = register("drop")
