"""From folded batches to the API's answers."""

import base64

import pyarrow as pa

from engine import schema
from engine.answer import Ask
from engine.bundle import Bundle
from engine.embed import backbone
from serve.config import Settings
from serve.errors import Problem, RequestError
from serve.models import (
    AnnotateResponse,
    Annotation,
    BundleResponse,
    Embedding,
    EmbedResponse,
    Near,
    Neighbour,
    NeighboursResponse,
    Options,
    ScoredTag,
    VocabularyResponse,
    VocabularyTag,
)
from serve.pipeline import Picture


def to_ask(options: Options, bundle: Bundle) -> Ask:
    """What the options want, by places of the vocabulary.

    Raises:
        RequestError: a tag to include or exclude is not in the vocabulary.
    """
    tagging = bundle.tagging
    included, excluded = options.include, options.exclude
    places = {name: tagging.places(name) for name in [*(included or []), *excluded]}
    unknown = [name for name, found in places.items() if not found]
    if unknown:
        reason = f"not in the vocabulary: {', '.join(unknown[:5])[:500]}; see /v1/vocabulary"
        raise RequestError(422, "unknown_tag", reason)
    among = None
    if included is not None or excluded:
        chosen = set(tagging.index.values())
        if included is not None:
            chosen = {place for name in included for place in places[name]}
        among = tuple(sorted(chosen - {place for name in excluded for place in places[name]}))
    return Ask(options.top_k, options.threshold, among)


def annotations(
    bundle: Bundle, request_id: str, pictures: list[Picture], table: pa.Table
) -> AnnotateResponse:
    """Tags of each picture, explained where the table has the columns for it."""
    errors = _problems(table)
    tag_rows = table.column(schema.TAGS).to_pylist()
    is_explained = schema.SHARES in table.column_names
    share_rows = table.column(schema.SHARES).to_pylist() if is_explained else None
    near_rows = table.column(schema.NEIGHBOURS).to_pylist() if is_explained else None
    carried = _carried(bundle, table) if is_explained else []
    names = tuple(bundle.manifest.annotators)
    results = []
    for row, picture in enumerate(pictures):
        tags = [ScoredTag(tag=one["tag"], score=one["score"]) for one in tag_rows[row] or ()]
        result = Annotation(name=picture.name, error=errors[row], tags=tags)
        if share_rows is not None and near_rows is not None:
            for tag, shares in zip(tags, share_rows[row] or (), strict=True):
                tag.shares = dict(zip(names, shares, strict=True))
            result.neighbours = [
                _neighbour(bundle, one["image_id"], one["distance"], carried[row])
                for one in near_rows[row] or ()
            ]
        results.append(result)
    return AnnotateResponse(
        bundle_id=bundle.id, request_id=request_id, results=results, error=_overall(errors)
    )


def embeddings(
    bundle: Bundle, request_id: str, pictures: list[Picture], table: pa.Table
) -> EmbedResponse:
    """The embedding of each picture."""
    errors = _problems(table)
    values = table.column(schema.EMBEDDING).to_pylist()
    results = [
        Embedding(name=p.name, error=e, embedding=None if e else v)
        for p, e, v in zip(pictures, errors, values, strict=True)
    ]
    name = bundle.manifest.backbone.name
    return EmbedResponse(
        bundle_id=bundle.id,
        request_id=request_id,
        backbone=name,
        width=backbone(name).width,
        results=results,
        error=_overall(errors),
    )


def neighbours(
    bundle: Bundle, request_id: str, pictures: list[Picture], table: pa.Table
) -> NeighboursResponse:
    """The training pictures near to each picture, nearest first."""
    errors = _problems(table)
    results = []
    for picture, error, carried in zip(pictures, errors, _carried(bundle, table), strict=True):
        near = sorted(carried.items(), key=lambda item: item[1][0])
        found = [_neighbour(bundle, image_id, value[0], carried) for image_id, value in near]
        results.append(Near(name=picture.name, error=error, neighbours=found))
    return NeighboursResponse(
        bundle_id=bundle.id, request_id=request_id, results=results, error=_overall(errors)
    )


def vocabulary(bundle: Bundle) -> VocabularyResponse:
    """The tags that may be given."""
    tagging = bundle.tagging
    names = {place: tag for tag, place in tagging.index.items()}
    listed = [
        VocabularyTag(tag=names[place], count=tagging.counts[place])
        for place in tagging.frequent_first
    ]
    aliases = {one: tagging.rules.canonical(one) for one in tagging.rules.aliases}
    return VocabularyResponse(
        bundle_id=bundle.id,
        digest=bundle.vocabulary.digest,
        tags=listed,
        aliases={one: tag for one, tag in aliases.items() if tag in tagging.index},
        groups={
            group: [names[place] for place in places]
            for group, places in tagging.groups.items()
            if places
        },
    )


def description(bundle: Bundle, settings: Settings) -> BundleResponse:
    """What a client may want to know of the bundle."""
    manifest = bundle.manifest
    return BundleResponse(
        id=bundle.id,
        backbone=manifest.backbone.name,
        width=backbone(manifest.backbone.name).width,
        tags=len(bundle.tagging.index),
        annotators=manifest.annotators,
        weights=dict(bundle.fusion.weights),
        threshold=bundle.cut.threshold,
        metrics=manifest.metrics,
        fingerprints=manifest.fingerprints,
        notes=list(manifest.notes),
        max_picture_bytes=manifest.limits.max_bytes,
        max_picture_pixels=min(
            manifest.limits.max_pixels, settings.max_pixels or manifest.limits.max_pixels
        ),
        max_pictures=settings.max_pictures,
        max_body_bytes=settings.max_body_bytes,
    )


def _problems(table: pa.Table) -> list[Problem | None]:
    codes = table.column(schema.ERROR).to_pylist()
    reasons = table.column(schema.REASON).to_pylist()
    return [
        None if code is None else Problem(code=code, reason=reason or "")
        for code, reason in zip(codes, reasons, strict=True)
    ]


def _overall(errors: list[Problem | None]) -> Problem | None:
    """A request none of whose pictures could be used has failed, with the first one's reason."""
    return errors[0] if all(errors) else None


ANYTHING = Ask(1)
"""For answers that rank no tags."""

_Carried = dict[str, tuple[float, list[str]]]


def _carried(bundle: Bundle, table: pa.Table) -> list[_Carried]:
    """A row's neighbours of all annotators: the id, the distance and the tags it speaks for."""
    rows: list[_Carried] = [{} for _ in range(table.num_rows)]
    tags, given = bundle.tagging.tags, bundle.tagging.index
    for name in table.column_names:
        if not name.startswith(schema.evidence_column("")):
            continue
        for row, evidence in enumerate(table.column(name).to_pylist()):
            for one in evidence or ():
                named = dict.fromkeys(tags[place] for place in one["tags"])
                spoken = [tag for tag in named if tag in given]
                rows[row].setdefault(one["image_id"], (one["distance"], spoken))
    return rows


def _neighbour(bundle: Bundle, image_id: str, distance: float, carried: _Carried) -> Neighbour:
    jpeg = bundle.thumbnails.get(image_id)
    return Neighbour(
        image_id=image_id,
        distance=distance,
        tags=carried[image_id][1],
        thumbnail=None if jpeg is None else base64.b64encode(jpeg).decode(),
    )
