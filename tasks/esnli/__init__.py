"""SeqIO tasks over e-SNLI, of rows that `fiat prepare esnli` has made: `esnli_fine_tuning` and `esnli_fiat`."""

from fiat_jax.data.shipped_tasks import register

TASKS = register("esnli", reasoning=True)
