"""SeqIO tasks over TyDi QA, of rows that `fiat prepare tydi_qa` has made: `tydi_qa_fine_tuning`."""

from fiat_jax.data.shipped_tasks import register

TASKS = register("tydi_qa")
