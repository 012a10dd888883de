"""What training, checkpoints and the verbs ask of a model family, so that they work with either and know neither.

What decoding asks is in `decoding/family.py`; how examples fill rows is in `data/batches.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from fiat_jax.errors import UserError
from fiat_jax.models.decoder import Decoder
from fiat_jax.models.decoder_only import DecoderOnly
from fiat_jax.models.encoder_decoder import EncoderDecoder
from fiat_jax.models.families import decoder_config
from fiat_jax.models.fused import Kernel
from fiat_jax.models.lora import LoraConfig
from fiat_jax.models.registry import Leaf, Naming
from fiat_jax.models.t5 import T5
from fiat_jax.models.t5_registry import T5_TYPES, t5_config

Module = Decoder | T5

DTYPES = ("float32", "bfloat16")


class Family(Protocol):
  """A module as the rest sees it.

  Attributes:
    task: what PEFT calls its use.
    room: how many tokens of prompt and answer together have places; None: any number.
    start_id: what the decoder of an encoder–decoder reads first; None: prompt and answer stand in one row.
  """

  @property
  def task(self) -> str: ...

  @property
  def room(self) -> int | None: ...

  @property
  def start_id(self) -> int | None: ...

  def leaves(self, naming: Naming = "hugging_face") -> list[Leaf]:
    """Where each leaf of `params` stands in a checkpoint of this naming."""
    ...

  def shapes(self) -> dict[str, Any]:
    """The tree `params` as `jax.ShapeDtypeStruct`; nothing is computed."""
    ...

  def axes(self) -> dict[str, Any]:
    """The same tree with the names of each leaf's axes."""
    ...

  def units(self) -> dict[str, int]:
    """What there is to deal out of an axis of each name: whole heads, not their places."""
    ...

  def unstack(self, params: Mapping[str, Any], *, consumes: bool = False) -> dict[str, Any]:
    """The weights that decoding walks over. Copies each layer's slice.

    `consumes`: `params`, plain dictionaries, are emptied meanwhile, so that no more than a leaf is held twice.
    """
    ...

  def with_adapter(self, weights: Mapping[str, Any], adapter: Mapping[str, Any]) -> dict[str, Any]:
    """Unstacked weights with an adapter beside them; the base is shared."""
    ...

  def bytes_a_row(self, prompt: int, targets: int) -> int:
    """An estimate of what the gradient of a LoRA update in bf16 needs of a row of so many tokens, both counted in."""
    ...

  def bytes_a_token(self, length: int, remat: str = "none") -> int:
    """What one token's activations take in a row of `length` until the backward pass has used them, roughly."""
    ...

  def with_kernel(self, module: Any, kernel: Kernel) -> Any:
    """The module with this kernel for training's attention: one of those that `fused.kernel` finds for it."""
    ...


def family_of(module: Module) -> Family:
  return EncoderDecoder(module.config) if isinstance(module, T5) else DecoderOnly(module.config)


def module_for(config: Mapping[str, Any], path: str, dtype: str, lora: LoraConfig | None = None) -> Module:
  """The module that a checkpoint's description (the keys of a Hugging Face `config.json`) asks for.

  Raises:
    UserError: an architecture, or a feature of one, that is not computed, or a dtype that is not.
  """
  check_dtype(config, path, dtype)
  if config.get("model_type") in (*T5_TYPES, "umt5"):
    return T5(t5_config(config, path, dtype), lora)
  return Decoder(decoder_config(config, path, dtype), lora)


def check_dtype(config: Mapping[str, Any], path: str, dtype: str) -> None:
  """Raises UserError where a model of this description is not computed in a dtype; for T5 in float16, why."""
  if config.get("model_type") in T5_TYPES:
    t5_config(config, path, dtype)
  if dtype not in DTYPES:
    raise UserError(f"the dtype {dtype!r} is not supported: give one of {', '.join(DTYPES)}")
