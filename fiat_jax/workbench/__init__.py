"""What the runs of one command share, made once: rows, tokenised shards, the pretrained models."""

from fiat_jax.workbench.bench import Workbench as Workbench
from fiat_jax.workbench.models import lora_config as lora_config
from fiat_jax.workbench.templates import without_reasoning as without_reasoning
