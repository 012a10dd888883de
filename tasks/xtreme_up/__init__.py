"""SeqIO tasks over XTREME-UP's question answering, of rows that `fiat prepare xtreme_up` has made.

`xtreme_up_indic_fine_tuning` and so on.
"""

from fiat_jax.data.shipped_tasks import register

VIEWS = ("xtreme_up_indic", "xtreme_up_full", "xtreme_up_official", "xtreme_up_in_language")
TASKS = [task for view in VIEWS for task in register(view)]
