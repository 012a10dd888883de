"""SeqIO tasks over CommonsenseQA, of rows that `fiat prepare commonsense_qa` has made.

`commonsense_qa_fine_tuning` and `commonsense_qa_fiat`.
"""

from fiat_jax.data.shipped_tasks import register

TASKS = register("commonsense_qa", reasoning=True)
