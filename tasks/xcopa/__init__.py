"""SeqIO tasks over XCOPA, of rows that `fiat prepare xcopa` has made: `xcopa_fine_tuning`."""

from fiat_jax.data.shipped_tasks import register

TASKS = register("xcopa")
