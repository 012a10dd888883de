"""What Prometheus reads at `/metrics`: requests, tokens, times, slots and queue."""

from __future__ import annotations

import functools

import prometheus_client as prometheus

CONTENT_TYPE = prometheus.CONTENT_TYPE_LATEST
SECONDS = (0.005, 0.025, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)


class Metrics:
  """One server's figures, in a registry of their own."""

  def __init__(self):
    self.registry = prometheus.CollectorRegistry()
    prometheus.ProcessCollector(registry=self.registry)
    counter = functools.partial(prometheus.Counter, registry=self.registry)
    gauge = functools.partial(prometheus.Gauge, registry=self.registry)
    histogram = functools.partial(prometheus.Histogram, registry=self.registry, buckets=SECONDS)
    self.requests = counter("fiat_requests", "HTTP requests answered", ["path", "status"])
    self.seconds = histogram("fiat_request_seconds", "From a request to the end of its answer", ["path"])
    self.first = histogram("fiat_first_token_seconds", "From a request to the first news of its answer")
    self.prompt_tokens = counter("fiat_prompt_tokens", "Tokens of prompts")
    self.new_tokens = counter("fiat_new_tokens", "Tokens of answers")
    self.refused = counter("fiat_queue_full", "Requests refused because the queue was full")
    self.left = counter("fiat_given_up", "Requests whose client left, or that the server gave up, before their end")
    self.slots = gauge("fiat_slots", "Answers that are decoded side by side at the most")
    self.busy = gauge("fiat_slots_busy", "Answers that are being decoded")
    self.waiting = gauge("fiat_waiting", "Answers that wait for a slot")
    self.calls = prometheus.Summary(
      "fiat_slots_while_waiting",
      "Slots at work in each call of the decode loop while others wait",
      registry=self.registry,
    )

  def text(self) -> bytes:
    return prometheus.generate_latest(self.registry)
