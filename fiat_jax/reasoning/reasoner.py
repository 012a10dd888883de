"""Who answers: a checkpoint on this machine, an endpoint, or the rows themselves, behind one small protocol."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from fiat_jax.configuration import Configuration
from fiat_jax.errors import UserError
from fiat_jax.reasoning.desk import Desk
from fiat_jax.reasoning.request import Request
from fiat_jax.reasoning.view import RECORDED
from fiat_jax.settings import Settings

ENDPOINT = "openai:"


class Reasoner(Protocol):
  """A big model.

  Attributes:
    name: what requests' keys call it; of a checkpoint with its fingerprint.
    endpoint: where it is; empty on this machine.
    context: tokens of prompt and answer together that it takes; None: any number, or not known.
    remote: whether what it is asked leaves this machine.
  """

  name: str
  endpoint: str
  remote: bool

  @property
  def context(self) -> int | None: ...

  def count(self, prompts: Sequence[str]) -> list[int]:
    """The tokens of each prompt as the model reads it; of an endpoint, by estimate."""
    ...

  def run(self, desk: Desk, requests: Sequence[Request]) -> None:
    """Asks all that the desk deals out, until it has nothing more. `requests` are all about the rows, asked or not.

    Raises:
      UserError: the model cannot be asked at all.
      Stopped: a signal asked to stop; what has come is kept.
    """
    ...


def make(configuration: Configuration) -> Reasoner:
  """The one that BETA names; no weights are read yet.

  Raises:
    UserError: there is no such model, or no key for the endpoint.
  """
  settings = configuration.settings
  if settings.beta == RECORDED:
    from fiat_jax.reasoning.recorded import RecordedReasoner

    return RecordedReasoner()
  if settings.beta.startswith(ENDPOINT):
    from fiat_jax.reasoning.openai import EndpointReasoner

    return EndpointReasoner(settings)
  if settings.beta_url:
    raise UserError(f"--beta_url is given and --beta {settings.beta!r} is no endpoint's: give --beta openai:NAME")
  from fiat_jax.reasoning.engine import EngineReasoner

  return EngineReasoner.of(configuration)


def require_price(settings: Settings) -> None:
  """Raises UserError where an endpoint's answers may not cost more than MAX_COST, and nothing says what they do."""
  if settings.max_cost and not settings.price and settings.beta.startswith(ENDPOINT):
    raise UserError(
      f"--max_cost {settings.max_cost:g} cannot be kept without the price: give --price INPUT,OUTPUT, "
      "money a million tokens, as in 0.15,0.60"
    )
