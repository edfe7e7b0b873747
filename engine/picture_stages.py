"""The stages of a picture's way: what each reads and writes, and the worker that does it."""

from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter

import numpy as np
import pyarrow as pa

from engine import schema
from engine.annotators import REGISTRY
from engine.answer import Ask, FuseWorker
from engine.bundle import Bundle, load_bundle
from engine.cut import TopK
from engine.embed import Compute, backbone, load_embedder
from engine.geometry import Geometry, Pixels, fit_to, load_resizer, thumbnail
from engine.image import DecodeLimits, ImageError, decode
from engine.index import Shards
from engine.recipe import Annotator
from engine.stage import Stage, Worker
from engine.vocabulary_rules import VocabularyRules


def decode_stage(
    limits: DecodeLimits,
    geometry: Geometry,
    thumbnail_side: int | None,
    pixels: Pixels = "reference",
) -> Stage:
    """Bytes to the backbone's square, and to a thumbnail where one is wanted."""
    size = geometry.size
    fields = [
        pa.field(schema.PIXELS, schema.tensor_type(np.uint8, (size, size, 3))),
        pa.field(schema.ERROR, pa.string()),
        pa.field(schema.REASON, pa.string()),
    ]
    if thumbnail_side:
        fields.append(pa.field(schema.THUMBNAIL, pa.binary()))
    return Stage(
        "decode",
        _MakeDecode(limits, geometry, thumbnail_side, pixels),
        reads=(schema.BYTES,),
        writes=tuple(fields),
    )


@dataclass(frozen=True)
class _MakeDecode:
    limits: DecodeLimits
    geometry: Geometry
    thumbnail_side: int | None
    pixels: Pixels

    def __call__(self) -> Worker:
        return DecodeWorker(self.limits, self.geometry, self.thumbnail_side, self.pixels)


class DecodeWorker:
    """Decodes a batch's pictures one by one; what cannot be decoded gets its error.

    Attributes:
        seconds: wall seconds spent decoding and resizing.
    """

    def __init__(
        self,
        limits: DecodeLimits,
        geometry: Geometry,
        thumbnail_side: int | None,
        pixels: Pixels,
    ) -> None:
        self._limits = limits
        self._geometry = geometry
        self._thumbnail_side = thumbnail_side
        self._pixels = pixels
        load_resizer(pixels)
        self.seconds = {"decode": 0.0, "resize": 0.0}

    def __call__(self, batch: pa.Table) -> pa.Table:
        size = self._geometry.size
        pixels_BHWC = np.zeros((batch.num_rows, size, size, 3), dtype=np.uint8)
        errors: list[str | None] = [None] * batch.num_rows
        reasons: list[str | None] = [None] * batch.num_rows
        small: list[bytes | None] = [None] * batch.num_rows
        least_side = self._geometry.least_side(self._pixels)
        now = perf_counter()
        for row, data in enumerate(batch.column(schema.BYTES)):
            try:
                full_HW3 = decode(data.as_buffer().to_pybytes(), self._limits, least_side)
            except ImageError as error:
                errors[row], reasons[row] = str(error.code), error.reason
                continue
            now = self._count("decode", now)
            pixels_BHWC[row] = fit_to(full_HW3, self._geometry, self._pixels)
            if self._thumbnail_side:
                small[row] = thumbnail(full_HW3, self._thumbnail_side)
            now = self._count("resize", now)
        self._count("decode", now)
        columns = {
            schema.PIXELS: schema.tensor_column(pixels_BHWC),
            schema.ERROR: pa.array(errors, pa.string()),
            schema.REASON: pa.array(reasons, pa.string()),
        }
        if self._thumbnail_side:
            columns[schema.THUMBNAIL] = pa.array(small, pa.binary())
        return pa.table(columns)

    def _count(self, part: str, since: float) -> float:
        now = perf_counter()
        self.seconds[part] += now - since
        return now


def embed_stage(
    name: str, compute: Compute, geometry: Geometry, graph: Path | None = None
) -> Stage:
    """Pixels to the backbone's embedding, by an exported graph where there is one."""
    width = backbone(name).width
    return Stage(
        "embed",
        _MakeEmbed(name, compute, graph),
        reads=(schema.PIXELS,),
        writes=(pa.field(schema.EMBEDDING, schema.tensor_type(np.float32, (width,))),),
    )


@dataclass(frozen=True)
class _MakeEmbed:
    name: str
    compute: Compute
    graph: Path | None

    def __call__(self) -> Worker:
        embedder = load_embedder(backbone(self.name), self.compute, self.graph)

        def run(batch: pa.Table) -> pa.Table:
            pixels_BHWC = schema.tensor_values(batch, schema.PIXELS).astype(np.uint8, copy=False)
            return pa.table({schema.EMBEDDING: schema.tensor_column(embedder(pixels_BHWC))})

        return run


def quantity_stage(bundle: Bundle) -> Stage:
    """How many tags a picture gets, by the bundle's own network for it."""
    field = pa.field(schema.QUANTITY, pa.float32())
    return Stage("quantity", _MakeQuantity(bundle.folder), bundle.quantity.reads, (field,))


@dataclass(frozen=True)
class _MakeQuantity:
    folder: Path

    def __call__(self) -> Worker:
        quantity = load_bundle(self.folder).quantity

        def run(batch: pa.Table) -> pa.Table:
            return pa.table({schema.QUANTITY: pa.array(quantity(batch), pa.float32())})

        return run


def score_stage(bundle: Bundle, name: str) -> Stage:
    """One annotator's scores, and its neighbours where it has any."""
    method = REGISTRY[bundle.manifest.annotators[name]].annotator
    tags = len(bundle.vocabulary)
    fields = [pa.field(schema.score_column(name), schema.tensor_type(np.float32, (tags,)))]
    if method.gives_evidence:
        fields.append(pa.field(schema.evidence_column(name), schema.EVIDENCE_LIST))
    counts = bundle.ensemble.counter == name
    if counts:
        fields.append(pa.field(schema.QUANTITY, pa.float32()))
    reads = method.reads_of(bundle.folder / "annotators" / name)
    return Stage(f"score/{name}", MakeScore(bundle.folder, name, counts), reads, tuple(fields))


@dataclass(frozen=True)
class MakeScore:
    """Loads an annotator of the bundle in `folder`.

    Attributes:
        shards: who holds the shards of its index; None: the worker itself.
    """

    folder: Path
    name: str
    counts: bool
    shards: Shards | None = None

    def __call__(self) -> Worker:
        annotator = load_bundle(self.folder).annotator(self.name, self.shards)
        return ScoreWorker(self.name, annotator, self.counts)


@dataclass(frozen=True)
class ScoreWorker:
    """Turns an annotator's verdict into columns.

    Attributes:
        counts: whether it also says how many tags a picture gets.
    """

    name: str
    annotator: Annotator
    counts: bool = False

    def __call__(self, batch: pa.Table) -> pa.Table:
        verdict = self.annotator.score(batch)
        columns = {schema.score_column(self.name): schema.tensor_column(verdict.scores_BV)}
        if verdict.evidence is not None:
            columns[schema.evidence_column(self.name)] = verdict.evidence
        if self.counts:
            assert verdict.quantity_B is not None, self.name
            columns[schema.QUANTITY] = pa.array(verdict.quantity_B, pa.float32())
        return pa.table(columns)


def fuse_stage(
    bundle: Bundle,
    top_k: TopK | None,
    among: tuple[str, ...] | None = None,
    dense: bool = False,
) -> Stage:
    """All the annotators' scores to the tags of a picture, with the neighbours they came from."""
    index = bundle.tagging.index
    places = None if among is None else tuple(sorted(index[tag] for tag in among if tag in index))
    names = tuple(bundle.manifest.annotators)
    witnesses = tuple(
        name
        for name, kind in bundle.manifest.annotators.items()
        if REGISTRY[kind].annotator.gives_evidence
    )
    asked = [] if top_k is not None else [schema.ASK]
    counted = [] if bundle.ensemble.counter is None else [schema.QUANTITY]
    told = [] if top_k is not None else [pa.field(schema.SHARES, schema.SHARE_LISTS)]
    if dense:
        tags = schema.tensor_type(np.float32, (len(bundle.vocabulary),))
        told.append(pa.field(schema.FUSED, tags))
    return Stage(
        "fuse",
        _MakeFuse(
            bundle.folder,
            bundle.rules,
            names,
            witnesses,
            None if top_k is None else Ask(top_k, None, places),
            dense,
        ),
        reads=(
            *(schema.score_column(name) for name in names),
            *(schema.evidence_column(name) for name in witnesses),
            *counted,
            *asked,
        ),
        writes=(
            pa.field(schema.TAGS, schema.SCORED_TAGS),
            pa.field(schema.NEIGHBOURS, schema.NEIGHBOUR_LIST),
            *told,
        ),
    )


@dataclass(frozen=True)
class _MakeFuse:
    folder: Path
    rules: VocabularyRules
    names: tuple[str, ...]
    witnesses: tuple[str, ...]
    ask: Ask | None
    dense: bool

    def __call__(self) -> Worker:
        bundle = replace(load_bundle(self.folder), rules=self.rules)
        return FuseWorker(
            self.names,
            self.witnesses,
            bundle.tagging,
            bundle.ensemble,
            self.ask,
            self.dense,
        )
