"""SeqIO tasks over CRASS, of rows that `fiat prepare crass` has made: `crass_fine_tuning`."""

from fiat_jax.data.shipped_tasks import register

TASKS = register("crass")
