"""SeqIO tasks over MGSM, after GSM8K's training problems; `fiat prepare gsm8k` and `fiat prepare mgsm` make the rows.

`mgsm_fine_tuning`.
"""

from fiat_jax.data.shipped_tasks import register

TASKS = register("mgsm")
