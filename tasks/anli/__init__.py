"""SeqIO tasks over ANLI, of rows that `fiat prepare anli` has made: `anli_fine_tuning` and `anli_fiat`."""

from fiat_jax.data.shipped_tasks import register

TASKS = register("anli", reasoning=True)
