"""Prometheus metrics: requests as they happen, and the system's state at the time of the scrape."""

from collections.abc import Callable, Iterable, Mapping

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

LABELS = ("of", "process")
Values = Mapping[tuple[str, ...], float]
"""Value by the first of these labels, or by both."""
GaugeReader = Callable[[], Iterable[tuple[str, str, Values]]]
"""Function that yields (name, meaning, values), computed at the scrape."""


class Metrics:
    """Registry of one app, so that two apps in one process (tests) don't share counts."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "coldchain_http_requests", "Requests answered", ["method", "route", "status"], registry=self.registry
        )
        self.seconds = Histogram(
            "coldchain_http_request_seconds", "Time to answer", ["method", "route"], registry=self.registry
        )

    def add(self, figures: GaugeReader) -> None:
        """Call `figures` at every scrape."""
        self.registry.register(_AtScrape(figures))

    def text(self) -> bytes:
        """Return all metrics in the Prometheus text format."""
        return generate_latest(self.registry)


class _AtScrape(Collector):
    def __init__(self, figures: GaugeReader) -> None:
        self._figures = figures

    def describe(self) -> Iterable[Metric]:
        return []

    def collect(self) -> Iterable[Metric]:
        for name, meaning, values in self._figures():
            family = GaugeMetricFamily(name, meaning, labels=LABELS[: len(next(iter(values), ()))])
            for labels, value in values.items():
                family.add_metric(labels, value)
            yield family
