"""SeqIO tasks over SVAMP, of rows that `fiat prepare svamp` has made: `svamp_fine_tuning` and `svamp_fiat`."""

from fiat_jax.data.shipped_tasks import register

TASKS = register("svamp", reasoning=True)
