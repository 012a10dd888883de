"""SeqIO tasks over XOR-AttriQA, of rows that `fiat prepare xor_attriqa` has made.

`xor_attriqa_fine_tuning` and so on.
"""

from fiat_jax.data.shipped_tasks import register

VIEWS = ("xor_attriqa", "xor_attriqa_english", "xor_attriqa_in_language")
TASKS = [task for view in VIEWS for task in register(view)]
