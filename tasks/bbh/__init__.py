"""SeqIO tasks over BIG-Bench Hard, of rows that `fiat prepare bbh` has made: `bbh_fine_tuning` and `bbh_fiat`."""

from fiat_jax.data.shipped_tasks import register

TASKS = register("bbh", reasoning=True)
