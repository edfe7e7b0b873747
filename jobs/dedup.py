"""`tagloom dedup`: exact and near duplicates in a corpus, and between train and test, as groups."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from pydantic import BaseModel, ConfigDict

from engine import schema
from engine.duplicates import FIRST, NearRule, group_pictures, join_near
from engine.embed import Compute, backbone, resolve_compute
from engine.errors import ConfigError, CorpusError
from engine.fingerprint_stage import FINGERPRINT, fingerprint_stage
from engine.image import DecodeLimits
from engine.index import IndexWish, build_index
from engine.picture_stages import embed_stage
from engine.stage import Plan
from jobs.bundles import open_bundle
from jobs.chunks import Inventory
from jobs.console import Console
from jobs.duplicate_groups import (
    AGAINST,
    DROP,
    GROUPS,
    INPUT,
    Findings,
    Gathered,
    distinct_contents,
    gather,
    write_groups,
)
from jobs.fit import Embedded, embed_pictures
from jobs.job import check_apart, noted
from jobs.lease import held
from jobs.runner import RunSettings, in_worker
from jobs.scratch import scratch_beside
from jobs.session import ray_session
from jobs.source import SCRATCH, take_inventory
from jobs.store import Store, absolute

JOB = "dedup-job.json"
MANIFEST = "manifest.json"
PARTS = "_parts"
"""Of the hashed and embedded pictures, a folder a corpus; another rule reads them again."""

_OWN = (PARTS,)

BACKBONE = "efficientnet-lite0"
RECALL = 0.99
"""Share of the `FIRST` nearest that an index too large to be exact is to find."""


class Comparison(BaseModel):
    """What the parts of an output are of; a run may go on only with the same corpora's.

    Attributes:
        corpora: path or URL, by 'input' and 'against'.
        fingerprints: their states.
        bundle_id: of the bundle that embeds; None: a backbone alone.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    corpora: dict[str, str]
    fingerprints: dict[str, str]
    backbone: str
    compute: Compute
    bundle_id: str | None


def dedup(
    source: str,
    against: str | None,
    out: str,
    rule: NearRule,
    console: Console,
    bundle_name: str | None = None,
    backbone_name: str = BACKBONE,
    max_index_bytes: int | None = None,
    settings: RunSettings | None = None,
) -> Findings:
    """Find the groups of pictures of a corpus, or of two, that are copies of one another.

    A run that was killed goes on with the parts that it had made, and so does one with another
    rule, which needs no picture anew.

    Args:
        against: a second corpus, such as the test part; None: there is none.
        bundle_name: embeds as the bundle does; None: `backbone_name` does.
        max_index_bytes: memory that the index never exceeds; None: no limit.

    Raises:
        TagloomError: a corpus, the bundle or the output is not as it must be.
    """
    started = time.monotonic()
    store = Store(out)
    corpora = {INPUT: absolute(source)}
    if against is not None:
        corpora[AGAINST] = absolute(against)
        if corpora[AGAINST] == corpora[INPUT]:
            raise ConfigError(
                f"--against names the same pictures as --input, {corpora[INPUT]}; leave it out to "
                "compare a corpus with itself"
            )
    for url in corpora.values():
        check_apart(url, store)
    # Before anything is written there, and again when no other job can be at it.
    noted(store, JOB, Comparison, _OWN, "duplicates")
    with held(store, console):
        earlier = noted(store, JOB, Comparison, _OWN, "duplicates")
        with _tidy(store, earlier):
            way = _way(bundle_name, backbone_name, console)
            parts = _embed(corpora, way, store, earlier, console, settings or RunSettings())
            gathered = gather(parts)
        return _compare(parts, gathered, way, store, rule, max_index_bytes, console, started)


def _compare(
    parts: Mapping[str, Embedded],
    gathered: Gathered,
    way: "_Way",
    store: Store,
    rule: NearRule,
    max_index_bytes: int | None,
    console: Console,
    started: float,
) -> Findings:
    # What fails from here on, such as too small a budget, leaves the parts for the next run.
    with console.waiting("seeking near pairs"), _scratch(store) as work:
        contents = distinct_contents(parts, gathered, way.backbone, work)
        index = None
        if len(contents) > 1:
            wish = IndexWish(max_bytes=max_index_bytes, recall=RECALL, nearest=FIRST)
            index = build_index(contents.vectors, wish, folder=Path(work))
        labels_U = join_near(contents, index, rule)
        groups = group_pictures(gathered.pictures, contents, labels_U)
    dropped = write_groups(store, gathered, groups, console)
    kinds = [kind for kind in groups.kind_M if kind is not None]
    leaking_M = groups.leaks_M & gathered.pictures.against_N[groups.rows_M]
    findings = Findings(
        rows={name: part.inventory.rows for name, part in parts.items()},
        failed={name: dict(sorted(part.errors.items())) for name, part in parts.items()},
        groups=len(groups),
        exact_bytes=kinds.count("exact-bytes"),
        exact_pixels=kinds.count("exact-pixels"),
        near=kinds.count("near"),
        leaking_groups=int((groups.leaks_M & groups.kept_M).sum()) if AGAINST in parts else None,
        leaking_pictures=int(leaking_M.sum()) if AGAINST in parts else None,
        dropped=dropped,
        threshold=rule.cosine,
        hash_distance=rule.hash_distance,
        backbone=way.backbone,
        bundle_id=way.bundle_id,
        index=None if index is None else index.entry,
        seconds=round(time.monotonic() - started, 2),
    )
    store.write(MANIFEST, findings.model_dump_json(indent=1).encode())
    return findings


@dataclass(frozen=True)
class _Way:
    """How pictures are hashed and embedded."""

    plan: Plan
    backbone: str
    compute: Compute
    bundle_id: str | None
    max_bytes: int


def _way(bundle_name: str | None, backbone_name: str, console: Console) -> _Way:
    limits, bundle_id, graph = DecodeLimits(), None, None
    if bundle_name is None:
        spec = backbone(backbone_name)
        geometry, compute = spec.geometry, resolve_compute("auto")
    else:
        bundle = open_bundle(bundle_name, console)
        entry, limits = bundle.manifest.backbone, bundle.manifest.limits
        spec, geometry, compute = backbone(entry.name), entry.geometry, entry.compute
        graph, bundle_id = bundle.graph_for(None), bundle.id
    stages = (
        fingerprint_stage(limits, geometry),
        embed_stage(spec.name, compute, geometry, graph),
    )
    plan = Plan(stages, (schema.EMBEDDING, *FINGERPRINT))
    return _Way(plan, spec.name, compute, bundle_id, limits.max_bytes)


def _embed(
    corpora: Mapping[str, str],
    way: _Way,
    store: Store,
    earlier: Comparison | None,
    console: Console,
    settings: RunSettings,
) -> dict[str, Embedded]:
    """Hash and embed the pictures of each corpus, but for the chunks whose parts are there.

    Raises:
        ConfigError: the parts that are there are of something else.
        CorpusError: a corpus cannot be read.
    """
    places = {name: Store(store.address(f"{PARTS}/{name}")) for name in corpora}
    with ray_session():
        inventories = {}
        for name, url in corpora.items():
            with console.waiting("listing the pictures"):
                inventory = in_worker(take_inventory, url, places[name], is_corpus=False)
            assert isinstance(inventory, Inventory)
            inventories[name] = inventory
        job = Comparison(
            corpora=dict(corpora),
            fingerprints={name: one.fingerprint for name, one in inventories.items()},
            backbone=way.backbone,
            compute=way.compute,
            bundle_id=way.bundle_id,
        )
        if earlier not in (None, job):
            raise ConfigError(
                f"{store.url}: compares other pictures, or these as they were before they "
                "changed, or by another bundle or backbone; name a new folder"
            )
        store.write(JOB, job.model_dump_json(indent=1).encode())
        # They would be of another rule, should this run be killed between the new ones.
        for stale in (MANIFEST, GROUPS, DROP):
            store.remove(stale)
        parts = {}
        for name, place in places.items():
            place.sweep()
            # A broken picture is counted, and none is too many: the others are compared.
            parts[name] = embed_pictures(
                corpora[name],
                inventories[name],
                way.plan,
                place,
                console,
                settings,
                way.max_bytes,
                max_failed=1.0,
            )
            place.remove(SCRATCH)
    return parts


@contextmanager
def _tidy(store: Store, earlier: Comparison | None) -> Iterator[None]:
    """Leave nothing behind of a job that ends with what its user can mend, if it was new."""
    try:
        yield
    except (ConfigError, CorpusError):
        if earlier is None:
            store.remove(PARTS)
            store.remove(JOB)
        raise


@contextmanager
def _scratch(store: Store) -> Iterator[str]:
    """A folder of this machine for what is mapped: beside the output, where there is room."""
    if store.is_local:
        with scratch_beside(Path(store.path("vectors"))) as work:
            yield work
    else:
        with TemporaryDirectory(prefix="tagloom-") as work:
            yield work
