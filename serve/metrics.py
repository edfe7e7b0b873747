"""What Prometheus is told: requests, latency by stage, batch sizes, errors by code, the queue."""

from collections.abc import Iterable, Iterator

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from serve.stages import Batch

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_ROWS = (1, 2, 4, 8, 16, 32, 64, 128)


class Metrics:
    """One replica's figures; the label `replica` tells those of several apart."""

    def __init__(self, replica: str) -> None:
        self._registry = CollectorRegistry()
        self._replica = replica
        self._requests = Counter(
            "tagloom_requests",
            "Requests answered",
            ("replica", "path", "status"),
            registry=self._registry,
        )
        self._latency = Histogram(
            "tagloom_request_seconds",
            "From a request's head to its answer",
            ("replica", "path"),
            buckets=_SECONDS,
            registry=self._registry,
        )
        self._stage = Histogram(
            "tagloom_stage_seconds",
            "A stage over one batch",
            ("replica", "stage"),
            buckets=_SECONDS,
            registry=self._registry,
        )
        self._batch = Histogram(
            "tagloom_batch_pictures",
            "Pictures folded at a time",
            ("replica", "slice"),
            buckets=_ROWS,
            registry=self._registry,
        )
        self._errors = Counter(
            "tagloom_errors",
            "Pictures and requests refused, by code",
            ("replica", "code"),
            registry=self._registry,
        )
        self._pictures = Counter(
            "tagloom_pictures", "Pictures folded", ("replica",), registry=self._registry
        )
        self._queue = Gauge(
            "tagloom_queue_pictures",
            "Pictures waiting or being folded",
            ("replica",),
            registry=self._registry,
        )

        # A replica is there from its start, not from its first picture.
        self.queue(0)

    def request(self, path: str, status: int, seconds: float) -> None:
        """Count an answer under its route's path."""
        self._requests.labels(self._replica, path, str(status)).inc()
        self._latency.labels(self._replica, path).observe(seconds)

    def error(self, code: str, count: int = 1) -> None:
        """Count a picture's or a request's error."""
        self._errors.labels(self._replica, code).inc(count)

    def batches(self, slice_name: str, batches: tuple[Batch, ...]) -> None:
        """Observe what a slice folded."""
        for batch in batches:
            self._batch.labels(self._replica, slice_name).observe(batch.rows)
            for stage, seconds in batch.seconds.items():
                self._stage.labels(self._replica, stage).observe(seconds)

    def pictures(self, count: int) -> None:
        """Count pictures that came through."""
        self._pictures.labels(self._replica).inc(count)

    def queue(self, length: int) -> None:
        """Set the queue's length."""
        self._queue.labels(self._replica).set(length)

    def text(self) -> bytes:
        """In Prometheus' text format."""
        return generate_latest(self._registry)


def merged(texts: Iterable[str]) -> bytes:
    """Several replicas' texts as one, each metric named once."""
    registry = CollectorRegistry()
    registry.register(_Several(tuple(texts)))
    return generate_latest(registry)


class _Several(Collector):
    def __init__(self, texts: tuple[str, ...]) -> None:
        self._texts = texts

    def collect(self) -> Iterator[Metric]:
        families: dict[str, Metric] = {}
        for text in self._texts:
            for family in text_string_to_metric_families(text):
                if family.name.endswith("_created"):
                    continue
                families.setdefault(
                    family.name, Metric(family.name, family.documentation, family.type)
                ).samples.extend(family.samples)
        yield from families.values()
