"""`tagloom fit`: a tagged corpus in, a bundle out."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from engine import schema
from engine.bundle import Bundle, sweep_drafts
from engine.columns import wanted_columns
from engine.config import FitConfig
from engine.corpus import Corpus, rows_of
from engine.embed import backbone, ensure_graph
from engine.errors import CorpusError
from engine.feature_stages import FOLDER
from engine.fitting import Material, fit_bundle, fit_steps
from engine.plan import embedding_geometry, embedding_plan, learning_compute
from engine.stage import Plan
from engine.storage.bundles import bundle_target, check_place, open_at
from engine.storage.files import is_remote, local_path, shown
from engine.tensors import Pixels
from engine.thumbnails import MOST
from jobs.chunks import Inventory
from jobs.columns import social_lists
from jobs.console import Console
from jobs.describing import describer_folder, ensure_describer
from jobs.identity import digest_of, embedding_identity
from jobs.index import IndexingGroup
from jobs.runner import RunSettings, in_worker, run_plan
from jobs.sampling import sample_pictures
from jobs.session import ray_session
from jobs.sink import finished_parts, part_name
from jobs.source import take_inventory
from jobs.spool import TensorSpool
from jobs.spread import EmbeddingFile, PartSpread
from jobs.store import Store, absolute
from jobs.unfinished import Begun, unfinished

INPUT_TAGS = f"input_{schema.TAGS}"
"""The column in which a corpus's own tags travel."""


def fit(
    corpus: str,
    out: str | Path,
    config: FitConfig,
    console: Console,
    overwrite: bool = False,
    settings: RunSettings | None = None,
    scratch: str | None = None,
    checkpoints: str | None = None,
) -> Bundle:
    """Embed a corpus with Ray Data and fit a bundle on it.

    One that was stopped goes on with what it had embedded and trained.

    Args:
        out: a path or URL.
        scratch: a folder that all nodes see; None: see `jobs.scratch.scratch_for`.
        checkpoints: where what was made so far is kept; None: see `jobs.unfinished`.

    Raises:
        TagloomError: the corpus, the configuration or the target is not as it must be; nothing
            is left behind then but what a fit can go on from.
    """
    # Here, not above: Ray Train and torch take seconds that what imports this need not pay.
    from jobs.train import TrainedFit
    from jobs.workers import check_training

    out = str(out)
    check_place(out, overwrite)
    with unfinished(out, console, checkpoints, scratch) as begun, ray_session():
        check_training(config)
        inventory = list_corpus(corpus, begun.work, console)
        job = Begun(
            corpus=absolute(corpus),
            fingerprint=inventory.fingerprint,
            embedding=digest_of(embedding_identity(config)),
        )
        begun.claim(job, overwrite)
        if not is_remote(out):
            sweep_drafts(local_path(out))
        begun.restore(FOLDER)
        thumbnails = inventory.rows <= MOST
        chosen = settings or RunSettings()
        embedded = embed_inventory(
            corpus, inventory, begun.work, config, console, chosen, thumbnails, parts=begun.kept
        )
        material = gather_material(corpus, embedded, config)
        if material.describer is not None:
            begun.keep(FOLDER)
        wanted = config.embed.accuracy.pictures
        pictures = sample_pictures(embedded.inventory, wanted, config.decode.max_bytes)
        material = replace(material, sample=tuple(pictures))
        console.say(f"{len(material.corpus):,} tagged pictures, {len(material.vocabulary):,} tags")
        steps = fit_steps(config)
        with bundle_target(out, overwrite) as draft, console.steps("fitting", steps) as begin:
            group = IndexingGroup(embedded.paths(), Path(begun.work.path(".")))
            run_fit = TrainedFit(begun, config.training, console.say)
            fit_bundle(draft, material, config, group, begin, run_fit)
    bundle = open_at(out)
    for note in bundle.manifest.notes:
        console.say(f"note: {note}")
    _show(bundle, console)
    console.say(f"bundle {bundle.id} is at {shown(out)}")
    return bundle


def _show(bundle: Bundle, console: Console) -> None:
    metrics = bundle.manifest.metrics
    shares = {name: metrics["fused"][f"weight/{name}"] for name in bundle.manifest.annotators}
    figures = ("precision@5", "recall@5", "f1@5", "n_plus@5", "picture_f1@auto")
    rows = [
        [
            name,
            f"{shares.get(name, 1):.2f}",
            *(f"{row[n]:.0f}" if n == "n_plus@5" else f"{100 * row[n]:.1f}" for n in figures),
        ]
        for name, row in metrics.items()
    ]
    headings = ["annotator", "weight", "P@5", "R@5", "F1@5", "N+@5", "picture F1, auto"]
    console.table("on the validation part", headings, rows)


@dataclass(frozen=True)
class Embedded:
    """Embedded pictures on disk, in the order of the corpus."""

    store: Store
    inventory: Inventory
    errors: dict[str, int]

    def paths(self) -> list[str]:
        return [self.store.path(part_name(chunk.name)) for chunk in self.inventory.chunks]

    def copied(self, store: Store) -> "Embedded":
        """The same in another store."""
        for chunk in self.inventory.chunks:
            name = part_name(chunk.name)
            if not store.is_file(name):
                store.write(name, self.store.read(name))
        return replace(self, store=store)

    def parts(self) -> Iterator[pa.Table]:
        for chunk in self.inventory.chunks:
            with self.store.open(part_name(chunk.name)) as file:
                yield pq.read_table(file)


def embed_corpus(
    corpus: str, store: Store, config: FitConfig, console: Console, settings: RunSettings
) -> Embedded:
    """Decode and embed every picture of a corpus into `store`.

    Raises:
        CorpusError: the corpus is broken, untagged, or too many of its pictures cannot be used.
    """
    inventory = list_corpus(corpus, store, console)
    thumbnails = inventory.rows <= MOST
    return embed_inventory(corpus, inventory, store, config, console, settings, thumbnails)


def list_corpus(corpus: str, store: Store, console: Console) -> Inventory:
    """What is in a corpus; the list itself is written into `store`.

    Raises:
        CorpusError: it is broken, or untagged.
    """
    with console.waiting("listing the corpus"):
        inventory = in_worker(take_inventory, absolute(corpus), store, is_corpus=True)
    assert isinstance(inventory, Inventory)
    return inventory


def embed_inventory(
    corpus: str,
    inventory: Inventory,
    store: Store,
    config: FitConfig,
    console: Console,
    settings: RunSettings,
    thumbnails: bool,
    sampled: Inventory | None = None,
    parts: Store | None = None,
) -> Embedded:
    """Decode and embed what is listed of a corpus, but for the chunks whose parts are there.

    Args:
        store: a folder that all workers see.
        sampled: what features' codebooks are learned from; None: the corpus itself.
        parts: where the parts are kept, which are copied into `store` then; None: there.

    Raises:
        CorpusError: too many of its pictures cannot be used.
    """
    if schema.FEATURES in wanted_columns(config):
        geometry = embedding_geometry(config)
        ensure_describer(sampled or inventory, store, config.decode, geometry, console)
    with console.waiting("exporting the backbone's graph"):
        spec = backbone(config.embed.network)
        graph = ensure_graph(spec, learning_compute(config), graphs_folder(store))
    plan = embedding_plan(config, thumbnails, Path(store.path(".")), graph)
    limits = (config.decode.max_bytes, config.max_failed)
    kept = parts or store
    embedded = embed_pictures(corpus, inventory, plan, kept, console, settings, *limits)
    return embedded if kept.url == store.url else embedded.copied(store)


def graphs_folder(store: Store) -> Path:
    """The folder of exported graphs beside the parts: all the workers load what is made once."""
    return Path(store.path("graphs"))


def embed_pictures(
    corpus: str,
    inventory: Inventory,
    plan: Plan,
    store: Store,
    console: Console,
    settings: RunSettings,
    limit: int,
    max_failed: float,
) -> Embedded:
    """Run what is listed of a corpus through `plan`, but for the chunks whose parts are there.

    Raises:
        CorpusError: more than the share `max_failed` of its pictures cannot be used.
    """
    errors: Counter[str] = Counter()
    done = {receipt.chunk: receipt for receipt in finished_parts(store)}
    with console.progress("embedding", inventory.rows) as advance:
        receipts = run_plan(plan, inventory, frozenset(done), store, settings, limit)
        for receipt in chain(done.values(), receipts):
            advance(receipt.rows, receipt.failed)
            errors.update(receipt.errors)
    failed = sum(errors.values())
    if failed > max_failed * inventory.rows:
        raise CorpusError(
            f"{corpus}: {failed:,} of {inventory.rows:,} pictures cannot be used "
            f"({_listed(errors)}), more than max_failed = {max_failed} allows; mend the "
            "pictures, or allow it with --set max_failed=1 ('index add': --max-failed 1)"
        )
    return Embedded(store, inventory, dict(errors))


def gather_material(corpus: str, embedded: Embedded, config: FitConfig) -> Material:
    """Read the tagged, healthy pictures back as one corpus with its vocabulary.

    Raises:
        CorpusError: there are too few of them, or too few tags.
    """
    ids: list[str] = []
    tags: list[list[str]] = []
    social: list[tuple[str, ...]] = []
    embeddings = EmbeddingFile(embedded.store.path("embeddings.float32"))
    thumbnails: dict[str, bytes] = {}
    wanted = {schema.PIXELS, *wanted_columns(config)}
    spools = {name: TensorSpool(embedded.store, name, embedded.inventory.rows) for name in wanted}
    untagged = 0
    for part in embedded.parts():
        healthy = part.filter(part.column(schema.ERROR).is_null())
        given = healthy.column(INPUT_TAGS).to_pylist()
        tagged = np.array([bool(one) for one in given], dtype=np.bool_)
        untagged += int((~tagged).sum())
        healthy = healthy.filter(pa.array(tagged))
        ids.extend(healthy.column(schema.IMAGE_ID).to_pylist())
        tags.extend([one for one in given if one])
        social.extend(social_lists(healthy))
        if healthy.num_rows:
            embeddings.append(schema.float_tensor(healthy, schema.EMBEDDING))
            for spool in spools.values():
                spool.add(healthy)
        if schema.THUMBNAIL in healthy.column_names:
            jpegs = healthy.column(schema.THUMBNAIL).to_pylist()
            thumbnails.update(zip(ids[-len(jpegs) :], jpegs, strict=True) if jpegs else ())
    vocabulary, learned_tags = config.vocabulary.learn(tags, config.vocabulary.more_tags)
    labels_NV = vocabulary.encode(learned_tags)
    kept = np.flatnonzero(np.diff(labels_NV.indptr))
    notes = []
    if embedded.errors:
        notes.append(f"pictures that could not be used: {_listed(embedded.errors)}")
    if untagged:
        notes.append(f"{untagged:,} pictures without tags were passed over")
    levels = backbone(config.embed.network).levels
    gathered = {name: spool.tensors(kept) for name, spool in spools.items()}
    squares = gathered.pop(schema.PIXELS)
    tagged_ids = tuple(ids[row] for row in kept)
    learned = Corpus(
        tagged_ids,
        rows_of(embeddings.mapped(), kept),
        labels_NV[kept],
        levels,
        tuple(social[row] for row in kept) if any(social) else None,
        PartSpread(embedded.store, embedded.inventory),
        None
        if squares is None
        else Pixels(squares.values_MX, squares.rows_N, config.embed.backbone),
        vocabulary.encode_places(learned_tags)[kept],
        {name: column for name, column in gathered.items() if column is not None},
    )
    described = describer_folder(embedded.store)
    describer = described if schema.FEATURES in gathered else None
    graphs = graphs_folder(embedded.store)
    return Material(
        learned, vocabulary, thumbnails, tuple(notes), describer=describer, graphs=graphs
    )


def _listed(errors: dict[str, int]) -> str:
    return ", ".join(f"{count:,} {code}" for code, count in sorted(errors.items()))
