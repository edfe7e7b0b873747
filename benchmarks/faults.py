"""`kill -9` at random moments of a job's writing: is the output that of an undisturbed run?

    python -m benchmarks.faults --moments 10 --kinds driver,worker,node,head

A drawn corpus is annotated once undisturbed. Then, for each kind and moment, the same job is killed
into, and the same command given again until it ends:

- driver: the job's own process, on a Ray of its own;
- worker: one of its actors; the job must end by itself;
- node: a raylet of a two-node cluster with all its workers; the job must end by itself;
- head: every process of the head, the submitted job's driver among them; on a new cluster again.

A moment is a number of parts in the output, drawn with a seed, and then either a delay or the next
file that is written and not yet renamed; the first moment is that of all parts without a manifest.
Outputs are compared byte for byte as one Arrow IPC file sorted by id. The last line is JSON.
"""

import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import psutil
import pyarrow.parquet as pq
import typer

from engine.config import load_config
from jobs.console import Console
from jobs.corpus import draw_corpus
from jobs.fit import fit
from tests.clusters import Cluster, canonical, cluster_of, counts, parts

PATIENCE = 600


@dataclass(frozen=True)
class Work:
    """The job: the same in every run but for its output."""

    pictures: Path
    bundle: Path

    def command(self, output: Path) -> list[str]:
        options = {"--input": self.pictures, "--bundle": self.bundle, "--output": output}
        words = [str(word) for pair in options.items() for word in pair]
        return ["annotate", *words, "--workers", "2", "--quiet"]


@dataclass(frozen=True)
class Moment:
    """When to kill: at so many parts, and then at the next draft, or after a delay in seconds."""

    parts: int
    delay: float | None

    def await_it(self, output: Path, job: subprocess.Popen[bytes]) -> bool:
        """Wait for it; False: the job ended before."""
        while len(parts(output)) < self.parts:
            if job.poll() is not None:
                return False
            time.sleep(0.001)
        if self.delay is not None:
            time.sleep(self.delay)
        else:
            until = time.monotonic() + 2
            while time.monotonic() < until and not any(output.glob(".draft-*")):
                pass
        return job.poll() is None and not (output / "manifest.json").exists()


def moments(count: int, total: int, seed: int) -> list[Moment]:
    """As many moments, that of all parts without a manifest first."""
    rng = random.Random(seed)
    found = [Moment(total, 0.0)]
    for number in range(count - 1):
        delay = rng.uniform(0, 0.25) if number % 2 else None
        found.append(Moment(rng.randrange(1, total - 1), delay))
    return found


@contextmanager
def running(command: list[str], environment: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    silent = subprocess.DEVNULL
    with subprocess.Popen(
        [sys.executable, "-m", "jobs", *command],
        env=environment,
        stdout=silent,
        stderr=silent,
        start_new_session=True,
    ) as job:
        try:
            yield job
        finally:
            job.kill()


def kill_actor(job: subprocess.Popen[bytes], rng: random.Random) -> None:
    """SIGKILL to one of the actors that work for a job, if one is there."""
    found = []
    for process in psutil.Process(job.pid).children(recursive=True):
        try:
            if "SegmentWorker" in " ".join(process.cmdline()):
                found.append(process)
        except psutil.Error:
            continue
    if found:
        rng.choice(found).kill()


@dataclass
class Verdict:
    """How a killed job ended."""

    kind: str
    at: int
    drafts: int
    runs: int
    seconds: float
    is_identical: bool
    once: bool
    adds_up: bool

    @property
    def is_good(self) -> bool:
        return self.is_identical and self.once and self.adds_up


@dataclass
class Bench:
    """What every round needs."""

    work: Work
    whole: bytes
    account: dict[str, object]
    place: Path

    def round(
        self,
        kind: str,
        moment: Moment,
        output: Path,
        words: Callable[[], list[str]],
        environment: Callable[[], dict[str, str]],
        fault: Callable[[subprocess.Popen[bytes]], None],
        again: Callable[[], None],
    ) -> Verdict | None:
        """Kill into one job and bring it to its end; None: it ended before the moment."""
        began = time.monotonic()
        with running(words(), environment()) as job:
            if not moment.await_it(output, job):
                return None
            at, drafts = len(parts(output)), len(list(output.glob(".draft-*")))
            fault(job)
            code = job.wait(PATIENCE)
        runs = 1
        while code:
            if runs == 3:
                raise SystemExit(f"{kind}: the job does not end; {output}")
            again()
            with running(words(), environment()) as job:
                code = job.wait(PATIENCE)
            runs += 1
        ids = Counter(
            name
            for part in parts(output)
            for name in pq.read_table(part, columns=["image_id"]).column(0).to_pylist()
        )
        left = {path.name for path in output.iterdir()}
        expected = {part.name for part in parts(output)} | {"job.json", "manifest.json"}
        return Verdict(
            kind,
            at,
            drafts,
            runs,
            time.monotonic() - began,
            canonical(output) == self.whole,
            set(ids.values()) == {1} and len(ids) == self.account["rows"],
            counts(output) == self.account and left == expected,
        )


def main(
    moments_: Annotated[int, typer.Option("--moments", min=2, help="Of each kind.")] = 10,
    kinds: Annotated[str, typer.Option(help="Which of them.")] = "driver,worker,node,head",
    pictures: Annotated[int, typer.Option(help="Pictures to annotate.")] = 1200,
    seed: Annotated[int, typer.Option(help="Of the moments.")] = 0,
) -> None:
    quiet = Console(quiet=True)
    alone = {name: text for name, text in os.environ.items() if not name.startswith("RAY_")}
    alone |= {"RAY_USAGE_STATS_ENABLED": "0", "PYTHONPATH": os.getcwd()}
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        draw_corpus(place / "corpus", 200, 1, quiet)
        draw_corpus(place / "pictures", pictures, 2, quiet)
        config = load_config(None, ["embed.backbone=random", "embed.compute=openvino"])
        fit(str(place / "corpus"), place / "bundle", config, quiet)
        work = Work(place / "pictures" / "images", place / "bundle")
        output = place / "undisturbed"
        first = None
        with running(work.command(output), alone) as job:
            while job.poll() is None:
                if first is None and parts(output):
                    first = time.monotonic()
                time.sleep(0.01)
        assert job.returncode == 0
        assert first is not None
        seconds = time.monotonic() - first
        bench = Bench(work, canonical(output), counts(output), place)
        total = len(parts(output))
        print(f"undisturbed: {total} parts, written in {seconds:.1f} s", flush=True)
        verdicts = []
        for kind in kinds.split(","):
            todo = moments(moments_, total, seed)
            verdicts += list(_of_kind(kind, bench, todo, alone, seed))
    summary: dict[str, object] = {"pictures": pictures, "parts": total, "seed": seed}
    for kind in kinds.split(","):
        mine = [one for one in verdicts if one.kind == kind]
        summary[kind] = {
            "moments": len(mine),
            "identical": sum(one.is_identical for one in mine),
            "every_id_once": sum(one.once for one in mine),
            "adds_up": sum(one.adds_up for one in mine),
            "runs": sum(one.runs for one in mine),
            "drafts_at_the_kill": sum(one.drafts > 0 for one in mine),
        }
    print(json.dumps(summary))
    if not all(one.is_good for one in verdicts):
        raise typer.Exit(1)


def _of_kind(
    kind: str, bench: Bench, todo: list[Moment], alone: dict[str, str], seed: int
) -> Iterator[Verdict]:
    rng = random.Random(seed)
    with cluster_of(2) if kind in ("node", "head") else _nowhere() as cluster:
        for number, moment in enumerate(todo):
            output = bench.place / f"{kind}-{number}"
            command = bench.work.command(output)
            old: list[Cluster] = []

            def words(command: list[str] = command) -> list[str]:
                if cluster is None:
                    return command
                return ["submit", *command, "--address", cluster.dashboard]

            def fault(job: subprocess.Popen[bytes], old: list[Cluster] = old) -> None:
                if kind == "driver":
                    job.kill()
                elif kind == "worker":
                    kill_actor(job, rng)
                elif cluster is not None and kind == "node":
                    cluster.nodes[-1].kill()
                    cluster.join()
                elif cluster is not None:
                    cluster.nodes[0].kill()
                    # What is left of it dies by itself, while the new one works already.
                    old.append(Cluster({}, "", nodes=cluster.nodes[1:]))
                    cluster.nodes = []

            def again() -> None:
                if cluster is not None and not cluster.nodes:
                    cluster.start(2)

            for _ in range(3):
                if cluster is not None:
                    cluster.await_nodes(2)
                found = bench.round(
                    kind,
                    moment,
                    output,
                    words,
                    lambda: alone if cluster is None else cluster.environment,
                    fault,
                    again,
                )
                for one in old:
                    one.kill()
                if found is not None:
                    break
                # It ended before its moment: once more and earlier, into a place of its own.
                moment = replace(moment, parts=max(1, moment.parts - 1))
                output = output.with_name(f"{output.name}-again")
                command[command.index("--output") + 1] = str(output)
            else:
                raise SystemExit(f"{kind}: moment {number} never came")
            print(
                f"{kind:7s} {number:2d}  at {found.at:3d} parts, {found.drafts} drafts  "
                f"{found.runs} runs  {found.seconds:5.1f} s  "
                f"identical {found.is_identical}  once {found.once}  adds up {found.adds_up}",
                flush=True,
            )
            yield found


@contextmanager
def _nowhere() -> Iterator[None]:
    yield None


if __name__ == "__main__":
    typer.run(main)
