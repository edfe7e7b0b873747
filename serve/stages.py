"""From a bundle to what deployments fold: the plan's stages in slices, and what is wanted of them.

The list of stages is the engine's, whatever the topology. A slice is some of them in one replica;
levels are slices that run one after another, those within a level at the same time.
"""

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Lock, local
from typing import Literal

import pyarrow as pa

from engine import schema
from engine.bundle import Bundle, load_bundle
from engine.errors import BundleError
from engine.plan import annotation_plan
from engine.stage import Plan, Worker, Workers
from engine.storage.bundles import fetch
from engine.vocabulary_rules import VocabularyRules
from serve.config import Topology

Want = Literal["tags", "explained", "embedding", "neighbours"]
WANTS: tuple[Want, ...] = ("tags", "explained", "embedding", "neighbours")

INPUT = pa.schema(
    [
        (schema.IMAGE_ID, pa.string()),
        (schema.BYTES, pa.binary()),
        (schema.SOCIAL_TAGS, pa.list_(pa.string())),
        (schema.ASK, schema.ASKS),
        (schema.ERROR, pa.string()),
        (schema.REASON, pa.string()),
    ]
)
"""A picture as it comes in; one that could not be had has its error already."""


@dataclass(frozen=True)
class BundleRef:
    """Which bundle a picture is for: it travels with the picture, so that no answer mixes two.

    Attributes:
        rules: of what it gives.
        url: where a node that does not have the folder fetches it from; '': nowhere.
    """

    folder: str
    id: str
    rules: VocabularyRules = field(default_factory=VocabularyRules)
    url: str = ""


@dataclass(frozen=True)
class Slice:
    """Stages that one deployment runs."""

    name: str
    stages: tuple[str, ...]


@dataclass(frozen=True)
class Batch:
    """The figures of one fold: how many pictures, and how long each stage took, in seconds."""

    rows: int
    seconds: Mapping[str, float]


@dataclass(frozen=True)
class Folded:
    """Rows with the columns that a slice wrote; a batch is told with the first rows of it alone."""

    table: pa.Table
    batches: tuple[Batch, ...]


def layout(bundle: Bundle, topology: Topology) -> tuple[tuple[Slice, ...], ...]:
    """The levels of a topology."""
    names = tuple(stage.name for stage in annotation_plan(bundle, None).stages)
    if topology == "fused":
        return ((Slice("all", names),),)
    scorers = tuple(Slice(f"score-{n}", (f"score/{n}",)) for n in bundle.manifest.annotators)
    later = {"fuse", *(name for scorer in scorers for name in scorer.stages)}
    return (
        (Slice("embed", tuple(name for name in names if name not in later)),),
        scorers,
        (Slice("fuse", ("fuse",)),),
    )


def wanted_plan(bundle: Bundle, want: Want) -> Plan:
    """The stages that an answer needs."""
    plan = annotation_plan(bundle, None)
    evidence = tuple(
        field.name
        for stage in plan.stages
        for field in stage.writes
        if field.name.startswith(schema.evidence_column(""))
    )
    keeps: dict[Want, tuple[str, ...]] = {
        "tags": (schema.TAGS,),
        "explained": (schema.TAGS, schema.NEIGHBOURS, schema.SHARES, *evidence),
        "embedding": (schema.EMBEDDING,),
        "neighbours": evidence,
    }
    return replace(plan.toward(keeps[want]), stamps={})


def sliced(plan: Plan, names: Iterable[str]) -> Plan:
    """The stages of a plan that a slice runs; it keeps what is read after it and what is wanted."""
    mine = set(names)
    stages = tuple(stage for stage in plan.stages if stage.name in mine)
    written = [field.name for stage in stages for field in stage.writes]
    later = {name for stage in plan.stages if stage.name not in mine for name in stage.reads}
    kept = [name for name in written if name in later or name in plan.keeps]
    own = (schema.ERROR, schema.REASON)
    return Plan(stages, tuple(name for name in kept if name not in own))


def reads_of(plan: Plan) -> tuple[str, ...]:
    """The columns that a slice must be given."""
    written = {field.name for stage in plan.stages for field in stage.writes}
    needed = dict.fromkeys(name for stage in plan.stages for name in stage.reads)
    fixed = (schema.IMAGE_ID, schema.ERROR, schema.REASON)
    return tuple(dict.fromkeys((*fixed, *(name for name in needed if name not in written))))


def join(table: pa.Table, parts: Iterable[pa.Table]) -> pa.Table:
    """The columns that a level's slices wrote, beside what was there."""
    for part in parts:
        for name in part.column_names:
            if name in table.column_names:
                place = table.column_names.index(name)
                table = table.set_column(place, part.field(name), part.column(name))
            else:
                table = table.append_column(part.field(name), part.column(name))
    return table


def reopen(ref: BundleRef) -> Bundle:
    """The bundle that is meant.

    Raises:
        BundleError: another is in its folder by now, or none.
    """
    if ref.url:
        fetch(ref.url, ref.id, Path(ref.folder))
    bundle = load_bundle(Path(ref.folder))
    if bundle.id != ref.id:
        raise BundleError(
            f"{ref.folder}: holds bundle {bundle.id}, but {ref.id} was asked for; put bundles in "
            "folders of their own, or deploy again with the new one"
        )
    return replace(bundle, rules=ref.rules)


class Fold:
    """Some stages of one bundle, their workers made once, folded toward whatever is wanted."""

    def __init__(
        self, ref: BundleRef, names: tuple[str, ...], max_pixels: int | None = None
    ) -> None:
        """Load the models of the stages named; those not in the bundle are passed over.

        Raises:
            BundleError: another bundle than `ref` says is in its folder, or none.
        """
        bundle = reopen(ref)
        if "embed" in names:
            bundle.check_backbone()
        bundle = _limited(bundle, max_pixels)
        self._spent = local()
        made = {
            stage.name: self._timed(stage.name, stage.make())
            for stage in annotation_plan(bundle, None).stages
            if stage.name in names
        }
        self._workers: dict[Want, Workers] = {}
        for want in WANTS:
            plan = sliced(wanted_plan(bundle, want), names)
            if plan.stages:
                workers = tuple(made[stage.name] for stage in plan.stages)
                self._workers[want] = Workers(plan, workers)

    def __call__(self, want: Want, table: pa.Table) -> Folded:
        """Fold the slice's stages over a batch: the same rows come back in the same order.

        May be called from several threads, of which one at a time is in each stage.
        """
        seconds: dict[str, float] = {}
        self._spent.seconds = seconds
        workers = self._workers[want]
        folded = workers(table)
        kept = [*workers.plan.keeps, schema.ERROR, schema.REASON]
        batch = Batch(table.num_rows, seconds)
        return Folded(folded.select(kept), (batch,))

    def _timed(self, name: str, worker: Worker) -> Worker:
        turn = Lock()

        def run(batch: pa.Table) -> pa.Table:
            with turn:
                started = time.perf_counter()
                try:
                    return worker(batch)
                finally:
                    self._spent.seconds[name] = time.perf_counter() - started

        return run


def _limited(bundle: Bundle, max_pixels: int | None) -> Bundle:
    """The bundle with a lower limit on a picture's pixels, if one is given."""
    limits = bundle.manifest.limits
    if max_pixels is None or max_pixels >= limits.max_pixels:
        return bundle
    lower = replace(limits, max_pixels=max_pixels)
    return replace(bundle, manifest=bundle.manifest.model_copy(update={"limits": lower}))
