"""The runs of a table on Ray: one task a row, corpus and seed, each result kept as it comes."""

import hashlib
import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import ray
from pydantic import BaseModel, ConfigDict
from ray.exceptions import RayError, RayTaskError
from threadpoolctl import threadpool_limits

from engine.config import FitConfig
from engine.errors import TagloomError
from engine.group import Solo
from engine.table.config import TagCount
from engine.table.measure import Trial, measure
from engine.table.pictures import Pictures
from jobs.console import Console
from jobs.runner import RunSettings
from jobs.session import cluster_resources
from jobs.store import Store

Place = tuple[int, str, int]
"""Number of the row, name of the corpus, seed."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Outcome(_Part):
    """What became of a run.

    Attributes:
        figures: every metric that applies, by name.
        pictures: trained and tested on; tested: of these.
        notes: of the annotators on their fit.
        failure: why there are no figures.
    """

    figures: dict[str, float] = {}
    notes: tuple[str, ...] = ()
    pictures: int = 0
    tested: int = 0
    seconds: float = 0.0
    failure: str | None = None

    @classmethod
    def failed(cls, error: BaseException, what: str = "") -> "Outcome":
        """A run that ended in an error, told in one line."""
        return cls(failure=" ".join(f"{what}{error}".split())[:500])


class Task(_Part):
    """One run, in full: the same task gives the same figures.

    Attributes:
        training, test: folders of embedded pictures, named after their content; see `Trial`.
        state: of the engine's source.
    """

    row: int
    name: str
    corpus: str
    seed: int
    fit: FitConfig
    training: str
    test: str | None
    held_out: float
    words: tuple[str, ...] | None
    k: TagCount
    state: str

    @property
    def place(self) -> Place:
        return self.row, self.corpus, self.seed

    @property
    def key(self) -> str:
        """A hash of all that decides the figures; where the row stands in the table does not."""
        content = self.model_dump(mode="json", exclude={"row", "name", "corpus"})
        # The folders' names hold what is in them; where they lie may change.
        content["training"] = Path(self.training).name
        content["test"] = None if self.test is None else Path(self.test).name
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def run_tasks(
    tasks: Sequence[Task], results: Store, console: Console, settings: RunSettings
) -> dict[Place, Outcome]:
    """Run what has no result in `results`, as many at a time as there are CPUs for.

    A run that fails does not stop the others, and leaves no result, so that it is tried again.
    """
    outcomes: dict[Place, Outcome] = {}
    todo: list[Task] = []
    results.sweep()
    kept = set(results.names())
    for task in tasks:
        if _file(task) in kept:
            outcomes[task.place] = Outcome.model_validate_json(results.read(_file(task)))
        else:
            todo.append(task)
    if outcomes:
        console.say(f"going on: {len(outcomes)} of {len(tasks)} runs are there")
    with console.progress(
        "fitting and measuring", len(tasks), len(outcomes), unit="runs"
    ) as advance:
        for task, outcome in _run(todo, settings.workers):
            outcomes[task.place] = outcome
            told = f"{task.name} on {task.corpus}, seed {task.seed}"
            if outcome.failure is None:
                results.write(_file(task), outcome.model_dump_json(indent=1).encode())
                console.say(f"{told}: F1 {outcome.figures['f1']:.1f} ({outcome.seconds:.0f} s)")
            else:
                console.error(f"{told}: {outcome.failure}")
            advance(1, outcome.failure is not None)
    return outcomes


def _file(task: Task) -> str:
    return f"{task.key}.json"


def _run(tasks: Sequence[Task], workers: int | None) -> Iterator[tuple[Task, Outcome]]:
    waiting = list(reversed(tasks))
    running: dict[ray.ObjectRef[str], Task] = {}
    most = workers or int(cluster_resources().get("CPU", 1))
    while waiting or running:
        while waiting and len(running) < most:
            task = waiting.pop()
            running[_run_task.remote(task.model_dump_json())] = task
        (done,), _ = ray.wait(list(running), num_returns=1)
        yield running.pop(done), outcome_of(done)


def outcome_of(done: ray.ObjectRef[str]) -> Outcome:
    """What a task left, its failure among it: a lost worker is that of its own run alone."""
    try:
        return Outcome.model_validate_json(ray.get(done))
    except RayTaskError as error:
        # The row's own error; Ray's would tell the worker's whole trace.
        cause = error.cause or error
        return Outcome.failed(cause, f"{type(cause).__name__}: ")
    except RayError as error:
        return Outcome.failed(error, f"its worker was lost, {type(error).__name__}: ")


@ray.remote(num_cpus=1, max_retries=1)
def _run_task(text: str) -> str:
    """Fit and measure in a worker, with one thread: two would share a core with another row."""
    task = Task.model_validate_json(text)
    started = time.monotonic()
    notes: list[str] = []
    try:
        with threadpool_limits(1):
            training = Pictures.load(Path(task.training))
            test = None if task.test is None else Pictures.load(Path(task.test))
            trial = Trial(training, test, task.held_out, task.seed, task.words, task.k)
            figures = measure(task.fit, trial, Solo(), notes.append)
    except TagloomError as error:
        return Outcome.failed(error).model_dump_json()
    return Outcome(
        figures=figures,
        notes=tuple(notes),
        pictures=len(training) + (0 if test is None else len(test)),
        tested=len(trial.rows()[1]),
        seconds=round(time.monotonic() - started, 2),
    ).model_dump_json()
