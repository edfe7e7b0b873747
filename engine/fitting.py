"""From an embedded corpus to a bundle: split, fit, fuse, measure, refit, save."""

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from engine import schema
from engine.accuracy import Score, choose_way
from engine.bundle import BackboneEntry, Manifest, seal_bundle
from engine.config import FitConfig
from engine.corpus import Corpus, split_rows
from engine.cut import Cut
from engine.embed import backbone
from engine.feature_stages import FOLDER
from engine.fusion import Fusion, speaking
from engine.group import Group
from engine.index import IndexEntry
from engine.numerics.metrics import calibration_error, picture_metrics, word_metrics
from engine.plan import embedding_geometry
from engine.recipe import Annotator, Recipe
from engine.thumbnails import save_thumbnails
from engine.vocab import Vocabulary

VALIDATION_AT_MOST = 5_000
"""Pictures that fusion and calibration learn from: a handful of parameters needs no more."""

TAGS_A_PICTURE = 5
"""k of the protocol of Murthy et al. 2015."""

Say = Callable[[str], None]
"""Told of each step as it begins."""

RunFit = Callable[[Recipe, Corpus, Vocabulary, Group], Annotator]
"""Has a recipe fitted, here or by the workers of a cluster."""


def fit_here(recipe: Recipe, corpus: Corpus, vocabulary: Vocabulary, group: Group) -> Annotator:
    """Fit in this process."""
    return recipe.fit(corpus, vocabulary, group)


@dataclass(frozen=True)
class Material:
    """What a bundle is fitted from: tagged, embedded pictures, and thumbnails of them.

    Attributes:
        sample: some of the pictures, encoded, on which the fast ways of embedding are tried.
        describer: folder of what makes the column `features`; None where nobody reads that.
    """

    corpus: Corpus
    vocabulary: Vocabulary
    thumbnails: Mapping[str, bytes]
    notes: tuple[str, ...] = ()
    sample: tuple[bytes, ...] = ()
    describer: Path | None = None


def fit_steps(config: FitConfig) -> int:
    """How many steps `fit_bundle` will tell of."""
    return len(config.annotators) * (2 if config.refit else 1) + 3


def fit_bundle(
    draft: Path,
    material: Material,
    config: FitConfig,
    group: Group,
    say: Say,
    run_fit: RunFit = fit_here,
) -> Manifest:
    """Fit every annotator and fill the folder `draft` with a sealed bundle.

    Fusion, calibration and cut are learned, and all figures measured, on a validation part that
    no annotator has seen; with `config.refit` the annotators are then learned again on all.

    Raises:
        CorpusError: too few pictures or tags.
    """
    corpus, vocabulary = material.corpus, material.vocabulary
    share = min(config.validation, VALIDATION_AT_MOST / max(len(corpus), 1))
    training_rows, validation_rows = split_rows(corpus.ids, share, config.seed)
    training = corpus.subset(training_rows)
    validation = corpus.subset(validation_rows)
    fitted: dict[str, Annotator] = {}
    scores: dict[str, NDArray[np.float32]] = {}
    for name, recipe in config.annotators.items():
        say(f"fitting {name} on {len(training):,} pictures")
        fitted[name] = run_fit(recipe, training, vocabulary, group)
        scores[name] = score_corpus(fitted[name], validation)
    say(f"blending on {len(validation):,} validation pictures")
    optional = {name for name, one in fitted.items() if one.may_abstain}
    fusion = Fusion.learn(scores, validation.labels_NV, config.seed, config.lift, optional)
    fused_NV = fusion(scores)
    always = {name: s for name, s in scores.items() if name not in optional}
    cut = Cut.learn(fusion(always), validation.labels_NV)
    informed_N = fusion.informed(fusion.parts(scores))
    rows_M = np.flatnonzero(informed_N)
    if len(rows_M):
        informed = Cut.learn(fused_NV[rows_M], validation.labels_NV[rows_M])
        cut = replace(cut, informed=informed.threshold)
    truth_NV = validation.labels_NV.toarray() > 0
    spoken = {name: np.flatnonzero(speaking(s)) for name, s in scores.items()}
    metrics = {
        name: _figures(s[spoken[name]], truth_NV[spoken[name]], cut)
        for name, s in scores.items()
        if len(spoken[name])
    }
    metrics["fused"] = _figures(fused_NV, truth_NV, cut, informed_N) | {
        f"weight/{name}": weight for name, weight in fusion.weights.items()
    }
    notes = [*material.notes, *(note for one in fitted.values() for note in one.notes)]
    notes += [
        f"'{name}' has what it needs for {len(spoken[name]):,} of the {len(validation):,} "
        "validation pictures, and is weighed and measured on these"
        for name in sorted(optional)
    ]
    if config.refit:
        for name, recipe in config.annotators.items():
            say(f"fitting {name} on all {len(corpus):,} pictures")
            fitted[name] = run_fit(recipe, corpus, vocabulary, group)
    indexes = {name: one.index_entry for name, one in fitted.items() if one.index_entry}
    notes += [index_note(name, entry) for name, entry in indexes.items()]
    say(f"trying fast ways of embedding on {len(material.sample):,} pictures")
    way = choose_way(draft, config, material.sample, _scorer(fitted, fusion))
    notes += way.notes
    say("writing the bundle")
    vocabulary.save(draft / "vocabulary.json")
    fusion.save(draft / "fusion.json")
    cut.save(draft / "cut.json")
    for name, annotator in fitted.items():
        folder = draft / "annotators" / name
        folder.mkdir(parents=True)
        annotator.save(folder)
    if material.describer is not None:
        shutil.copytree(material.describer, draft / FOLDER)
    if material.thumbnails:
        (draft / "thumbnails").mkdir()
        save_thumbnails(draft / "thumbnails", material.thumbnails)
    spec = backbone(config.embed.network)
    manifest = Manifest(
        vocabulary=vocabulary.digest,
        backbone=BackboneEntry(
            name=spec.name,
            weights_sha256=spec.weights_sha256(),
            geometry=embedding_geometry(config),
            compute=way.compute,
            pixels=way.pixels,
            graph=way.graph,
        ),
        limits=config.decode,
        annotators={name: recipe.kind for name, recipe in config.annotators.items()},
        fingerprints={
            "corpus": _fingerprint(corpus),
            "config": hashlib.sha256(config.model_dump_json().encode()).hexdigest(),
        },
        metrics=metrics,
        accuracy=way.tried,
        index=indexes,
        notes=tuple(dict.fromkeys(notes)),
    )
    seal_bundle(draft, manifest)
    return manifest


def index_note(name: str, entry: IndexEntry) -> str:
    """Which index an annotator got, why, and how well it finds."""
    found = ", ".join(f"{100 * share:.1f}% of the {k}" for k, share in entry.recall.items())
    recall = f"; it finds {found} nearest" if found and entry.kind != "flat" else ""
    return f"'{name}' searches {entry.reason}{recall}"


def _scorer(fitted: Mapping[str, Annotator], fusion: Fusion) -> Score:
    """What scores a picture of which only the embedding is known.

    Annotators that read pixels, or what is made of them, are left out: how the embedding is
    computed is nothing to them, or not all.
    """
    known = {schema.EMBEDDING, schema.SOCIAL_TAGS}
    asked = {name: one for name, one in fitted.items() if known.issuperset(one.reads)}

    def score(embeddings_BD: NDArray[np.float32]) -> NDArray[np.float32]:
        batch = _batch([str(row) for row in range(len(embeddings_BD))], embeddings_BD, None)
        if not asked:
            return np.zeros((len(embeddings_BD), 1), dtype=np.float32)
        return fusion({name: one.score(batch).scores_BV for name, one in asked.items()})

    return score


def score_corpus(annotator: Annotator, corpus: Corpus) -> NDArray[np.float32]:
    """An annotator's scores float32 [N, V] of a corpus's pictures."""
    parts = []
    start = 0
    social = corpus.social_tags or (None,) * len(corpus)
    for embeddings_BD, _ in corpus.blocks(256):
        rows = slice(start, start + len(embeddings_BD))
        batch = _batch(corpus.ids[rows], embeddings_BD, social[rows])
        if corpus.pixels is not None and schema.PIXELS in annotator.reads:
            squares = corpus.pixels.take(np.arange(rows.start, rows.stop))
            batch = batch.append_column(schema.PIXELS, schema.tensor_column(squares))
        for name in corpus.columns.keys() & set(annotator.reads):
            values = corpus.columns[name].take(np.arange(rows.start, rows.stop))
            batch = batch.append_column(name, schema.tensor_column(values))
        parts.append(annotator.score(batch).scores_BV)
        start = rows.stop
    return np.concatenate(parts)


def _batch(
    ids: Sequence[str],
    embeddings_BD: NDArray[np.float32],
    social: Sequence[Sequence[str] | None] | None,
) -> pa.Table:
    """What the annotators read."""
    kind = schema.OPTIONAL[schema.SOCIAL_TAGS]
    words = pa.nulls(len(ids), kind) if social is None else pa.array(social, kind)
    return pa.table(
        {
            schema.IMAGE_ID: pa.array(ids, pa.string()),
            schema.EMBEDDING: schema.tensor_column(embeddings_BD),
            schema.SOCIAL_TAGS: words,
        }
    )


def _figures(
    scores_NV: NDArray[np.float32],
    truth_NV: NDArray[np.bool_],
    cut: Cut,
    informed_N: NDArray[np.bool_] | None = None,
) -> dict[str, float]:
    given_NV = ranked_tags(scores_NV, TAGS_A_PICTURE)
    words = word_metrics(given_NV, truth_NV)
    places_NK, counts_N = cut.rank(scores_NV, "auto", informed_N)
    auto_NV = np.zeros_like(truth_NV)
    for row, count in enumerate(counts_N):
        auto_NV[row, places_NK[row, :count]] = True
    return {
        "precision@5": words.precision,
        "recall@5": words.recall,
        "f1@5": words.f1,
        "n_plus@5": float(words.n_plus),
        "picture_f1@auto": picture_metrics(auto_NV, truth_NV).f1,
        "tags_a_picture@auto": float(counts_N.mean()),
        "calibration_error": calibration_error(scores_NV, truth_NV),
    }


def ranked_tags(scores_NV: NDArray[np.float32], k: int) -> NDArray[np.bool_]:
    """Which tags are each picture's k best, boolean [N, V]."""
    places_NK, _ = Cut().rank(scores_NV, k)
    given_NV = np.zeros(scores_NV.shape, dtype=np.bool_)
    np.put_along_axis(given_NV, places_NK, True, axis=1)
    return given_NV


def _fingerprint(corpus: Corpus) -> str:
    digest = hashlib.sha256("\n".join(corpus.ids).encode())
    for embeddings_BD, labels_BV in corpus.blocks():
        digest.update(np.ascontiguousarray(embeddings_BD).tobytes())
        digest.update(labels_BV.indices.tobytes())
    if corpus.social_tags is not None:
        digest.update(json.dumps(corpus.social_tags, ensure_ascii=False).encode())
    if corpus.places_NV is not None:
        digest.update(np.ascontiguousarray(corpus.places_NV.data, dtype=np.float32).tobytes())
    return digest.hexdigest()
