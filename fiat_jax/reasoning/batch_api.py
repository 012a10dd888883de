"""An endpoint's batch interface: requests go up as a file, and their answers come down as one, within a day.

What is claimed is on the disk before it leaves (`batches.py`), the batch's name before it is waited for. A command that
was stopped anywhere goes on with what is there; of a batch that may have been submitted the endpoint is asked before it
is submitted again. Where a batch ends without an answer to a request (expired, cancelled, refused), that is a failure
with its reason, and asked again by the next command.
"""

from __future__ import annotations

import collections
import io
import tempfile
from collections.abc import Iterator
from typing import IO, Any

import openai

from fiat_jax import signals
from fiat_jax.errors import UserError
from fiat_jax.progress import say
from fiat_jax.reasoning import patience
from fiat_jax.reasoning.api_key import KEY, brief
from fiat_jax.reasoning.batch_files import Came, came, line_of, url_of
from fiat_jax.reasoning.batches import Batch
from fiat_jax.reasoning.desk import Dealt, Desk, Failure
from fiat_jax.reasoning.dialect import Dialect, passes, told, wait_of
from fiat_jax.reasoning.request import Answer, Claim

MOST_REQUESTS, MOST_BYTES = 50_000, 100_000_000  # of one batch, as OpenAI allows them
CHUNK = 500  # claims and answers that are written to the store at a time
LOOKS = 3  # for a batch that may have been submitted, before it is submitted again
OLD_SECONDS = 3600.0  # batches so much older than ours are not looked through: clocks differ
UNREADY_LOOKS = 10  # at a batch that is said to be completed, and names no file yet
ENDED = ("completed", "failed", "expired", "cancelled", "canceled")  # whatever else an endpoint says, it is at work
TOO_MUCH = "token_limit_exceeded"


def run(desk: Desk, dialect: Dialect, key: str, timeout: float) -> None:
  """Asks all that the desk deals out. Raises as `Reasoner.run` does."""
  with openai.OpenAI(api_key=key, base_url=dialect.endpoint, max_retries=0, timeout=timeout) as client:
    try:
      _Interface(desk, dialect, client).run()
    except openai.NotFoundError:
      raise UserError(f"{dialect.endpoint} has no batch interface (404): leave out --batch_api") from None


class _Interface:
  """One command's work with the batches of one endpoint."""

  def __init__(self, desk: Desk, dialect: Dialect, client: openai.OpenAI):
    self._desk, self._dialect, self._client = desk, dialect, client
    self._most, self._one_by_one = MOST_REQUESTS, False
    self._said: dict[str, str] = {}
    self._unready: collections.Counter[str] = collections.Counter()  # by tag: looks that found it without its files
    self._forms: dict[str, frozenset[str]] = {}  # by tag: what was left out of the requests

  def run(self) -> None:
    wait = patience.FIRST_WAIT
    while True:
      under_way = [batch for batch in self._attended() if self._follow(batch)]
      if not len(self._desk):
        return
      if not (self._one_by_one and under_way) and self._submit():
        wait = patience.FIRST_WAIT
      elif not under_way and self._desk.capped:
        return
      else:
        patience.sleep(wait)
        wait = min(patience.LONGEST_WAIT, wait * 1.5)

  def _attended(self) -> list[Batch]:
    batches = self._desk.batches
    return [b for b in list(batches.open.values()) if b.endpoint == self._dialect.endpoint and batches.attend(b)]

  def _submit(self) -> bool:
    """Sends one batch, as large as may be; false where nothing may be sent now."""
    signals.check()
    with tempfile.TemporaryFile() as file:
      claims = self._written(file)
      if not claims:
        return False
      batch = self._desk.batches.prepare(self._dialect.endpoint, claims)
      self._forms[batch.tag] = self._dialect.left_out
      try:
        uploaded = patience.patiently(self._dialect, lambda: self._upload(file))
      except BaseException:
        self._never_sent(batch)
        raise
    return self._create(self._desk.batches.uploaded(batch, uploaded.id), url_of(claims[0]))

  def _upload(self, file: IO[bytes]) -> Any:
    file.seek(0)
    return self._client.files.create(file=("requests.jsonl", file), purpose="batch")

  def _written(self, file: IO[bytes]) -> list[Dealt]:
    """Writes requests to the file until a batch is full."""
    claims: list[Dealt] = []
    try:
      while len(claims) < self._most and file.tell() < MOST_BYTES:
        dealt = self._desk.take(min(CHUNK, self._most - len(claims)))
        if not dealt:
          break
        claims += dealt
        for claim in dealt:
          file.write(line_of(claim, self._dialect))
    except BaseException:
      self._desk.unsent(claims)
      raise
    return claims

  def _create(self, batch: Batch, url: Any) -> bool:
    """Submits what was uploaded; where it is not sure whether that came through, looks before it does so again."""
    reason = ""
    for attempt in range(1, patience.ATTEMPTS + 1):
      try:
        made = self._client.batches.create(completion_window="24h", endpoint=url, input_file_id=batch.file)
        return self._submitted(batch, made.id)
      except openai.APIStatusError as e:
        if not passes(e.status_code):
          self._never_sent(batch)
          self._dialect.require_welcome(e.status_code)
          raise self._refused(told(e.status_code, e.message)) from None
        sure, reason, wait = e.status_code < 500, told(e.status_code, e.message), wait_of(e)
      except (openai.APIError, ValueError) as e:
        sure, reason, wait = False, brief(e), 0.0
      patience.back_off(attempt, wait)
      if not sure and (id := self._found(batch)):
        return self._submitted(batch, id)
    raise UserError(f"{self._dialect.endpoint} takes no batch: {patience.ATTEMPTS} attempts, the last: {reason}")

  def _submitted(self, batch: Batch, id: str) -> bool:
    self._desk.batches.submitted(batch, id)
    say(
      f"batch {id}: {len(batch.claims)} requests are with the endpoint, which takes up to a day for them. Stop this "
      "command when you like: the same one goes on"
    )
    return True

  def _found(self, batch: Batch) -> str:
    """The endpoint's name of a batch of which only the file is known; empty where there is none."""
    for look in range(1, LOOKS + 1):
      if id := patience.patiently(self._dialect, lambda: self._listed(batch)):
        return id
      if look < LOOKS:
        patience.back_off(look)
    return ""

  def _listed(self, batch: Batch) -> str:
    for listed in self._client.batches.list(limit=100):  # newest first, page after page
      if listed.input_file_id == batch.file:
        return listed.id
      if listed.created_at < batch.time - OLD_SECONDS:
        break
    return ""

  def _follow(self, batch: Batch) -> bool:
    """Looks after a batch that was prepared; whether it is still under way."""
    if not batch.id:
      id = self._found(batch) if batch.file else ""
      if not id:
        self._never_sent(batch)
        return False
      return self._submitted(batch, id)
    try:
      made = patience.patiently(self._dialect, lambda: self._client.batches.retrieve(batch.id))
    except openai.NotFoundError:
      raise UserError(
        f"{self._dialect.endpoint} knows no batch {batch.id}, which {len(batch.claims)} requests are in: is {KEY} the "
        "one that it was submitted with?"
      ) from None
    status = str(made.status).lower()
    ready = made.output_file_id or made.error_file_id or status != "completed"
    self._unready[batch.tag] += not ready
    if status not in ENDED or (not ready and self._unready[batch.tag] < UNREADY_LOOKS):
      counts = made.request_counts
      self._tell(batch, f"{made.status}{f', {counts.completed} of {counts.total} done' if counts else ''}")
      return True
    if status == "failed":
      self._failed(batch, made)
    else:
      self._collect(batch, made)
    return False

  def _tell(self, batch: Batch, news: str) -> None:
    if self._said.get(batch.id) != news:
      self._said[batch.id] = news
      say(f"batch {batch.id}: {news}")

  def _failed(self, batch: Batch, made: Any) -> None:
    """It was refused as a whole, before anything in it was asked."""
    errors = (made.errors and made.errors.data) or []
    self._never_sent(batch, "failed")
    if not any(error.code == TOO_MUCH for error in errors):
      raise self._refused("; ".join(brief(e.message) for e in errors[:2]) or "it does not say why")
    if len(batch.claims) == 1:
      raise self._refused(brief(errors[0].message or TOO_MUCH))
    if not self._attended():  # of itself, not because of others
      self._most = max(1, min(self._most, len(batch.claims) // 2))
    self._one_by_one = True
    say(f"batch {batch.id} is more than the endpoint takes at a time: now one after another, of {self._most} requests")

  def _refused(self, reason: str) -> UserError:
    return UserError(f"{self._dialect.endpoint} refuses the batch: {reason}. Leave out --batch_api to ask one by one")

  def _never_sent(self, batch: Batch, status: str = "not submitted") -> None:
    self._desk.unsent(list(batch.claims.values()))
    self._desk.batches.ended(batch, status)

  def _collect(self, batch: Batch, made: Any) -> None:
    """Keeps all that a batch has brought."""
    left, form = dict(batch.claims), self._forms.get(batch.tag, frozenset())
    answers: list[tuple[Claim, Answer]] = []
    failures: list[Failure] = []
    again: list[Claim] = []
    for one in self._came(made.output_file_id, made.error_file_id):
      claim = left.pop(one.key, None)
      if claim is None:
        continue
      if one.answer:
        answers.append((claim, one.answer))
      elif self._dialect.blames(one.status, one.reason) and (
        self._dialect.learns(one.status, one.reason) or self._dialect.left_out != form
      ):
        again.append(claim)
      else:
        failures.append(Failure(claim, one.reason, one.charged))
      if len(answers) + len(failures) >= CHUNK:
        self._desk.close(answers, failures)
        answers, failures = [], []
    why = f"batch {batch.id} was {made.status} and says nothing about it"
    self._desk.close(answers, failures + [Failure(claim, why, charged=True) for claim in left.values()])
    self._desk.unsent(again)
    self._desk.batches.ended(batch, made.status)
    self._tell(batch, made.status)
    if str(made.status).lower() in ("cancelled", "canceled"):
      raise UserError(
        f"batch {batch.id} was cancelled at {self._dialect.endpoint}: what it had answered is kept, and the same "
        "command asks for the rest"
      )

  def _came(self, *files: str | None) -> Iterator[Came]:
    """What stands in the endpoint's files, each of which is here whole before its first line counts."""
    for id in filter(None, files):
      content = patience.patiently(self._dialect, lambda id=id: self._client.files.content(id).read())
      yield from came(io.BytesIO(content))
