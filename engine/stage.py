"""Stages: the unit of work that a loop, Ray Data and Ray Serve all fold over a batch.

A stage's worker sees healthy rows alone: `fold` sets rows aside as soon as their `error` is
written and puts them back, in order, at the end. No worker has to know of a broken picture.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from time import perf_counter
from typing import Protocol, runtime_checkable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from engine import schema
from engine.errors import SchemaError

Worker = Callable[[pa.Table], pa.Table]
"""Takes healthy rows; returns a table of the same rows holding the columns that it writes."""

FOLDING = "folding"
"""Names the time between the stages: setting rows aside, merging and dropping columns."""

_ORDER = "__row"


@runtime_checkable
class Timed(Protocol):
    """A worker that tells how its own time divides, instead of one figure for all of it."""

    @property
    def seconds(self) -> Mapping[str, float]:
        """Wall seconds by part since the worker was made."""
        ...


@dataclass(frozen=True)
class Resources:
    """What one worker of a stage asks for: CPU slots and GPUs, each possibly fractional."""

    cpus: float = 1.0
    gpus: float = 0.0


@dataclass(frozen=True)
class Stage:
    """One step of a plan. `make` runs once in each worker, so it ships a path, never weights."""

    name: str
    make: Callable[[], Worker]
    reads: tuple[str, ...]
    writes: tuple[pa.Field, ...]
    resources: Resources = field(default_factory=Resources)


@dataclass(frozen=True)
class Plan:
    """Stages in order, and which of the columns they write are wanted at the end.

    `stamps` are columns with one value for every row, failed ones too: what the row came from.
    `inherits` are columns that the segments before this one wrote: not the caller's to keep.
    """

    stages: tuple[Stage, ...]
    keeps: tuple[str, ...]
    stamps: Mapping[str, str] = field(default_factory=dict)
    inherits: tuple[str, ...] = ()

    def check(self, given: Collection[str]) -> None:
        """Refuse bad wiring before anything runs.

        Raises:
            SchemaError: a stage reads what nothing before it gives, two stages write the same
                column, or a kept column is written by none.
        """
        available = {*given, *schema.OPTIONAL}
        for stage in self.stages:
            missing = [name for name in stage.reads if name not in available]
            if missing:
                raise SchemaError(
                    f"stage '{stage.name}' reads {missing}, but only {sorted(available)} is there "
                    f"by then; put the stage that writes it before '{stage.name}'"
                )
            written = {field.name for field in stage.writes}
            twice = written & (available - {schema.ERROR, schema.REASON})
            if twice:
                raise SchemaError(
                    f"stage '{stage.name}' writes {sorted(twice)}, which is there already; "
                    "rename the column of one of the two"
                )
            available |= written
        unknown = [name for name in self.keeps if name not in available]
        if unknown:
            raise SchemaError(f"columns {unknown} are asked for, but no stage writes them")

    def segments(self) -> list["Plan"]:
        """Cut the plan where the resources change; adjacent equal stages share a worker.

        Each segment keeps what later segments read, and what the whole plan keeps.
        """
        groups: list[list[Stage]] = []
        for stage in self.stages:
            if groups and groups[-1][-1].resources == stage.resources:
                groups[-1].append(stage)
            else:
                groups.append([stage])
        plans: list[Plan] = []
        inherits: list[str] = []
        for position, group in enumerate(groups):
            later = [name for rest in groups[position + 1 :] for s in rest for name in s.reads]
            given = [field.name for s in self.stages for field in s.writes]
            keeps = [name for name in dict.fromkeys([*self.keeps, *later]) if name in given]
            if schema.BYTES in later:
                keeps.append(schema.BYTES)
            is_last = position == len(groups) - 1
            stamps = self.stamps if is_last else {}
            plans.append(Plan(tuple(group), tuple(keeps), stamps, tuple(inherits)))
            inherits.extend(field.name for stage in group for field in stage.writes)
        return plans

    def toward(self, keeps: tuple[str, ...]) -> "Plan":
        """The stages that the columns `keeps` need, and no other; the stamps stay.

        Raises:
            SchemaError: no stage writes one of them.
        """
        wanted = set(keeps)
        chosen: list[Stage] = []
        for stage in reversed(self.stages):
            if wanted & {field.name for field in stage.writes}:
                chosen.append(stage)
                wanted |= set(stage.reads)
        plan = Plan(tuple(reversed(chosen)), keeps, self.stamps)
        written = {field.name for stage in chosen for field in stage.writes}
        if not written >= set(keeps):
            raise SchemaError(f"no stage writes {sorted(set(keeps) - written)}")
        return plan

    def workers(self) -> "Workers":
        """Make every stage's worker in this process."""
        return Workers(self, tuple(stage.make() for stage in self.stages))


@dataclass(frozen=True)
class Workers:
    """A plan whose workers are made: call it with a batch, get the batch with its columns."""

    plan: Plan
    made: tuple[Worker, ...]
    _spent: dict[str, float] = field(default_factory=dict, compare=False, repr=False)

    @property
    def seconds(self) -> dict[str, float]:
        """Wall seconds spent since these were made, by stage, and under `FOLDING` between them.

        A stage whose worker is `Timed` is listed by its own parts.
        """
        parts = dict(self._spent)
        for stage, worker in zip(self.plan.stages, self.made, strict=True):
            if isinstance(worker, Timed):
                whole = parts.pop(stage.name, 0.0)
                told = dict(worker.seconds)
                parts |= told
                # What the worker leaves out of its parts must not be lost.
                parts[FOLDING] = parts.get(FOLDING, 0.0) + max(0.0, whole - sum(told.values()))
        return parts

    def _count(self, name: str, since: float) -> float:
        now = perf_counter()
        self._spent[name] = self._spent.get(name, 0.0) + now - since
        return now

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Fold the stages over `batch`: the same rows in the same order come back.

        Columns that no later stage reads and nobody keeps are dropped on the way; columns that
        no stage knows are the caller's and ride along.
        """
        stages = self.plan.stages
        now = perf_counter()
        given = {schema.BYTES, *self.plan.inherits}
        given |= {field.name for stage in stages for field in stage.writes}
        healthy = _with_error_columns(batch).append_column(
            _ORDER, pa.array(np.arange(batch.num_rows, dtype=np.int64))
        )
        failed: list[pa.Table] = []
        healthy = _set_aside(healthy, failed)
        for position, (stage, worker) in enumerate(zip(stages, self.made, strict=True)):
            read = _read(stage, healthy)
            now = self._count(FOLDING, now)
            written = worker(read)
            now = self._count(stage.name, now)
            healthy = _merge(stage, healthy, written)
            healthy = _set_aside(healthy, failed)
            wanted = {name for later in stages[position + 1 :] for name in later.reads}
            wanted |= {*self.plan.keeps, schema.ERROR, schema.REASON}
            healthy = healthy.drop_columns(
                [name for name in healthy.column_names if name in given and name not in wanted]
            )
        if failed:
            healthy = _put_back(healthy, failed)
        stamped = self._stamped(healthy.drop_columns([_ORDER]))
        self._count(FOLDING, now)
        return stamped

    def _stamped(self, batch: pa.Table) -> pa.Table:
        for name, value in self.plan.stamps.items():
            batch = batch.append_column(name, pa.repeat(value, batch.num_rows))
        return batch


def _with_error_columns(batch: pa.Table) -> pa.Table:
    for name in (schema.ERROR, schema.REASON):
        if name not in batch.column_names:
            batch = batch.append_column(name, pa.nulls(batch.num_rows, pa.string()))
    return batch


def _set_aside(table: pa.Table, failed: list[pa.Table]) -> pa.Table:
    errors = table.column(schema.ERROR)
    if errors.null_count == len(errors):
        return table
    is_healthy = pc.is_null(errors)
    failed.append(table.filter(pc.invert(is_healthy)))
    return table.filter(is_healthy)


def _put_back(healthy: pa.Table, failed: list[pa.Table]) -> pa.Table:
    columns = healthy.column_names
    rest = [table.select([n for n in table.column_names if n in columns]) for table in failed]
    merged = pa.concat_tables([healthy, *rest], promote_options="default")
    return merged.take(pc.sort_indices(merged.column(_ORDER)))


def _read(stage: Stage, table: pa.Table) -> pa.Table:
    """The columns that a stage reads; what the caller may give, but did not, is null.

    Raises:
        SchemaError: the caller's column is of another type.
    """
    columns = {}
    for name in dict.fromkeys((schema.IMAGE_ID, *stage.reads)):
        kind = schema.OPTIONAL.get(name)
        if kind is None:
            columns[name] = table.column(name)
        elif name not in table.column_names:
            columns[name] = pa.nulls(table.num_rows, kind)
        else:
            try:
                columns[name] = table.column(name).cast(kind)
            except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
                raise SchemaError(
                    f"stage '{stage.name}' reads `{name}` as {kind}, but the column is of type "
                    f"{table.column(name).type}; give lists of strings, or leave the column out"
                ) from error
    return pa.table(columns)


def _merge(stage: Stage, table: pa.Table, written: pa.Table) -> pa.Table:
    expected = [field.name for field in stage.writes]
    assert written.column_names == expected, (stage.name, written.column_names, expected)
    assert written.num_rows == table.num_rows, (stage.name, written.num_rows, table.num_rows)
    for column_field in stage.writes:
        column = written.column(column_field.name)
        if column_field.name in table.column_names:
            place = table.column_names.index(column_field.name)
            table = table.set_column(place, column_field, column)
        else:
            table = table.append_column(column_field, column)
    return table
