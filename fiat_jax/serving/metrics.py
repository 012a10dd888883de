"""What Prometheus reads at `/metrics`: requests, tokens, times, slots and queue."""

from __future__ import annotations

import prometheus_client as prometheus

CONTENT_TYPE = prometheus.CONTENT_TYPE_LATEST
SECONDS = (0.005, 0.025, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)


class Metrics:
  """One server's figures, in a registry of their own."""

  def __init__(self):
    self.registry = prometheus.CollectorRegistry()
    prometheus.ProcessCollector(registry=self.registry)
    made = {"registry": self.registry}
    self.requests = prometheus.Counter("fiat_requests", "HTTP requests answered", ["path", "status"], **made)
    self.seconds = prometheus.Histogram(
      "fiat_request_seconds", "From a request to the end of its answer", ["path"], buckets=SECONDS, **made
    )
    self.first = prometheus.Histogram(
      "fiat_first_token_seconds", "From a request to its first tokens", buckets=SECONDS, **made
    )
    self.prompt_tokens = prometheus.Counter("fiat_prompt_tokens", "Tokens of prompts", **made)
    self.new_tokens = prometheus.Counter("fiat_new_tokens", "Tokens of answers", **made)
    self.refused = prometheus.Counter("fiat_queue_full", "Requests refused because the queue was full", **made)
    self.left = prometheus.Counter("fiat_clients_gone", "Requests whose client left before the end", **made)
    self.slots = prometheus.Gauge("fiat_slots", "Answers that are decoded side by side at the most", **made)
    self.busy = prometheus.Gauge("fiat_slots_busy", "Answers that are being decoded", **made)
    self.waiting = prometheus.Gauge("fiat_waiting", "Answers that wait for a slot", **made)
    self.calls = prometheus.Summary(
      "fiat_decode_call_slots", "Slots at work in each call of the decode loop while others wait", **made
    )

  def text(self) -> bytes:
    return prometheus.generate_latest(self.registry)
