"""From a bundle or a configuration to the list of stages that a picture goes through."""

from collections.abc import Mapping
from pathlib import Path

from engine import schema
from engine.bundle import Bundle
from engine.columns import ColumnSource, column_stage, read_columns, wanted_columns
from engine.config import FitConfig
from engine.cut import TopK
from engine.embed import FLIP, FLOAT32, Compute, backbone, resolve_compute
from engine.ensemble import OWN
from engine.geometry import Geometry
from engine.picture_stages import (
    decode_stage,
    embed_stage,
    fuse_stage,
    quantity_stage,
    score_stage,
)
from engine.stage import Plan, Resources, Stage
from engine.thumbnails import SIDE


def embedding_plan(
    config: FitConfig, thumbnails: bool, folder: Path | None = None, graph: Path | None = None
) -> Plan:
    """The part of a picture's way that training shares: decode, embed, and make further columns.

    Args:
        folder: where that lies which a column's stage learned of the corpus.
        graph: of the backbone, exported for `learning_compute`; None: each worker exports it.
    """
    spec = backbone(config.embed.network)
    geometry = embedding_geometry(config)
    stages = [
        decode_stage(config.decode, geometry, SIDE if thumbnails else None),
        embed_stage(spec.name, learning_compute(config), geometry, graph),
    ]
    keeps = [schema.EMBEDDING]
    if thumbnails:
        keeps.append(schema.THUMBNAIL)
    if config.wants_pixels:
        keeps.append(schema.PIXELS)
    source = ColumnSource(config.embed.backbone, geometry, folder)
    for name in wanted_columns(config):
        stages.append(column_stage(name, source))
        keeps.append(name)
    return Plan(tuple(stages), tuple(keeps))


def learning_compute(config: FitConfig) -> Compute:
    """What embeds the pictures that are learned from: once, in float32, whatever computes later.

    Raises:
        ConfigError: what is asked for is not installed.
    """
    compute = resolve_compute(config.embed.compute)
    return FLOAT32.get(compute, compute)


def bundle_embedding_plan(bundle: Bundle, thumbnails: bool) -> Plan:
    """Decode and embed as the bundle does it for pictures that it annotates."""
    entry = bundle.manifest.backbone
    side = SIDE if thumbnails else None
    stages = (
        decode_stage(bundle.manifest.limits, entry.geometry, side, entry.pixels),
        embed_stage(entry.name, entry.compute, entry.geometry, bundle.graph_for(None)),
    )
    return Plan(stages, (schema.EMBEDDING, schema.THUMBNAIL) if thumbnails else (schema.EMBEDDING,))


def embedding_geometry(config: FitConfig) -> Geometry:
    """The backbone's own geometry, or its size under the mode that the configuration names."""
    own = backbone(config.embed.network).geometry
    if config.embed.geometry == "backbone":
        return own
    return Geometry(mode=config.embed.geometry, size=own.size, resize_to=own.resize_to)


def annotation_plan(
    bundle: Bundle,
    top_k: TopK | None,
    resources: Mapping[str, Resources] | None = None,
    among: tuple[str, ...] | None = None,
    compute: Compute | None = None,
    dense: bool = False,
) -> Plan:
    """The whole way of a picture through a bundle, from bytes to tags.

    Args:
        top_k: None: each row says in its column `ask` what is wanted of it (`schema.ASKS`), and
            the column `shares` is written as well.
        among: only these tags are given; None: any of the vocabulary.
        resources: what a stage asks for, by stage name ('decode', 'embed', 'score/<name>',
            'fuse'); stages without an entry ask for one CPU.
        compute: what embeds; None: what the bundle was fitted for.
        dense: write the score of every tag too, as `schema.FUSED`, and the predicted number of
            tags, where one is.

    Raises:
        BundleError: another compute is asked for, and the weights here are not the bundle's.
        ConfigError: the bundle's `rules` name what it does not know.
    """
    manifest = bundle.manifest
    entry = manifest.backbone
    source = ColumnSource(entry.name.removesuffix(FLIP), entry.geometry, bundle.folder)
    stages = [
        decode_stage(manifest.limits, entry.geometry, None, entry.pixels),
        embed_stage(
            entry.name, compute or entry.compute, entry.geometry, bundle.graph_for(compute)
        ),
        *(column_stage(name, source) for name in read_columns(bundle)),
        *([quantity_stage(bundle)] if bundle.ensemble.counter == OWN else []),
        *(score_stage(bundle, name) for name in manifest.annotators),
        fuse_stage(bundle, top_k, among, dense),
    ]
    given = resources or {}
    placed = [
        Stage(s.name, s.make, s.reads, s.writes, given.get(s.name, s.resources)) for s in stages
    ]
    counted = [] if bundle.ensemble.counter is None else [schema.QUANTITY]
    plan = Plan(
        tuple(placed),
        (schema.TAGS, schema.NEIGHBOURS, *([schema.FUSED, *counted] if dense else [])),
        stamps={schema.BUNDLE_ID: bundle.id},
    )
    plan.check({schema.IMAGE_ID, schema.BYTES} | ({schema.ASK} if top_k is None else set()))
    return plan
