"""SeqIO tasks over IMPACT, of rows that `fiat prepare impact` has made: `impact_fine_tuning`."""

from fiat_jax.data.shipped_tasks import register

TASKS = register("impact")
