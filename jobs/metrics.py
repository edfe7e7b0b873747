"""What a job tells Prometheus: pictures by outcome, and where each chunk's time went.

Through Ray's own metrics, so that each node exports those of its workers, with `ray_` before their
names. Labels are few: stages and error codes, never pictures, chunks or addresses.
"""

from collections.abc import Mapping

from ray.util.metrics import Counter, Histogram

from jobs.sink import Receipt
from jobs.work import Work

PICTURES, CHUNK, STAGE = (
    "tagloom_job_pictures",
    "tagloom_job_chunk_seconds",
    "tagloom_job_stage_seconds",
)
HEALTHY = "ok"
"""What the label `code` says of a picture without an error; jobs that do not tag count them too."""

_SECONDS = [0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0]


class JobMetrics:
    """One worker's figures; made in the worker."""

    def __init__(self) -> None:
        self._pictures = Counter(
            PICTURES, "Pictures written, by error code or 'ok'", tag_keys=("code",)
        )
        self._chunk = Histogram(
            CHUNK, "One worker's time on one chunk", boundaries=_SECONDS, tag_keys=()
        )
        self._stage = Histogram(
            STAGE, "A stage's share of a worker's time on a chunk", _SECONDS, tag_keys=("stage",)
        )

    def add(self, work: Work, receipt: Receipt | None) -> None:
        """Note a chunk that the worker is done with.

        Args:
            receipt: what was written; None, if another worker goes on with the chunk.
        """
        self._chunk.observe(work.ended - work.began)
        for stage, seconds in work.seconds.items():
            self._stage.observe(seconds, {"stage": stage})
        if receipt is not None:
            for code, count in outcomes(receipt).items():
                self._pictures.inc(count, {"code": code})


def outcomes(receipt: Receipt) -> Mapping[str, int]:
    """Pictures by error code, and under 'ok' those without one; zeros left out."""
    counts = {**receipt.errors, HEALTHY: receipt.rows - receipt.failed}
    return {code: count for code, count in counts.items() if count}
