"""SeqIO tasks over GSM8K, of rows that `fiat prepare gsm8k` has made: `gsm8k_fine_tuning`."""

from fiat_jax.data.shipped_tasks import register

TASKS = register("gsm8k")
