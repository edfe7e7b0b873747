"""Stages: the unit of work that a loop, Ray Data and Ray Serve all fold over a batch.

A stage's worker sees healthy rows alone: `fold` sets rows aside as soon as their `error` is
written and puts them back, in order, at the end. No worker has to know of a broken picture.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from engine import schema
from engine.errors import SchemaError

Worker = Callable[[pa.Table], pa.Table]
"""Takes healthy rows; returns a table of the same rows holding the columns that it writes."""

_ORDER = "__row"


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
        available = set(given)
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

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Fold the stages over `batch`: the same rows in the same order come back.

        Columns that no later stage reads and nobody keeps are dropped on the way; columns that
        no stage knows are the caller's and ride along.
        """
        stages = self.plan.stages
        given = {schema.BYTES, *self.plan.inherits}
        given |= {field.name for stage in stages for field in stage.writes}
        healthy = _with_error_columns(batch).append_column(
            _ORDER, pa.array(np.arange(batch.num_rows, dtype=np.int64))
        )
        failed: list[pa.Table] = []
        healthy = _set_aside(healthy, failed)
        for position, (stage, worker) in enumerate(zip(stages, self.made, strict=True)):
            written = worker(healthy.select([*dict.fromkeys((schema.IMAGE_ID, *stage.reads))]))
            healthy = _merge(stage, healthy, written)
            healthy = _set_aside(healthy, failed)
            wanted = {name for later in stages[position + 1 :] for name in later.reads}
            wanted |= {*self.plan.keeps, schema.ERROR, schema.REASON}
            healthy = healthy.drop_columns(
                [name for name in healthy.column_names if name in given and name not in wanted]
            )
        if not failed:
            return self._stamped(healthy.drop_columns([_ORDER]))
        columns = healthy.column_names
        rest = [table.select([n for n in table.column_names if n in columns]) for table in failed]
        merged = pa.concat_tables([healthy, *rest], promote_options="default")
        in_order = merged.take(pc.sort_indices(merged.column(_ORDER)))
        return self._stamped(in_order.drop_columns([_ORDER]))

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
