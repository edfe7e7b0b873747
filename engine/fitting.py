"""From an embedded corpus to a bundle: split, fit, fuse, measure, refit, save."""

import hashlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engine import schema
from engine.accuracy import Score, choose_way
from engine.bundle import QUANTITY, RULES, seal_bundle
from engine.config import FitConfig
from engine.corpus import Corpus
from engine.cut import Cut
from engine.embed import backbone
from engine.ensemble import OWN, Ensemble, Opinion
from engine.feature_stages import FOLDER
from engine.fusion import Fusion, speaking
from engine.group import Group
from engine.index import IndexEntry
from engine.manifest import BackboneEntry, Manifest
from engine.members import (
    Members,
    RunFit,
    Say,
    embedded_batch,
    fit_here,
    fit_members,
    joint_opinion,
)
from engine.members import score_corpus as score_corpus
from engine.numerics.metrics import calibration_error, picture_metrics, word_metrics
from engine.plan import embedding_geometry
from engine.recipe import Annotator
from engine.thumbnails import save_thumbnails
from engine.vocab import Vocabulary

TAGS_A_PICTURE = 5
"""k of the protocol of Murthy et al. 2015."""


@dataclass(frozen=True)
class Material:
    """What a bundle is fitted from: tagged, embedded pictures, and thumbnails of them.

    Attributes:
        sample: some of the pictures, encoded, on which the fast ways of embedding are tried.
        describer: folder of what makes the column `features`; None where nobody reads that.
        graphs: folder of exported graphs that pictures were embedded by; None: there is none.
    """

    corpus: Corpus
    vocabulary: Vocabulary
    thumbnails: Mapping[str, bytes]
    notes: tuple[str, ...] = ()
    sample: tuple[bytes, ...] = ()
    describer: Path | None = None
    graphs: Path | None = None


def fit_steps(config: FitConfig) -> int:
    """How many steps `fit_bundle` will tell of."""
    learned = len(config.annotators) + (config.ensemble_settings.counter == OWN)
    return learned * (2 if config.refit else 1) + 3


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
    members = fit_members(config, corpus, vocabulary, group, say, run_fit)
    fitted, ensemble = members.annotators, members.ensemble
    notes = [*material.notes, *(note for one in fitted.values() for note in one.notes)]
    notes += _notes_of_abstaining(members)
    indexes = {name: one.index_entry for name, one in fitted.items() if one.index_entry}
    notes += [index_note(name, entry) for name, entry in indexes.items()]
    say(f"trying fast ways of embedding on {len(material.sample):,} pictures")
    score = _scorer(fitted, ensemble.fusion)
    way = choose_way(draft, config, material.sample, score, material.graphs)
    notes += way.notes
    say("writing the bundle")
    vocabulary.save(draft / "vocabulary.json")
    ensemble.save(draft)
    rules = config.vocabulary.rules
    if rules.rewrites or rules.groups:
        (draft / RULES).write_text(rules.model_dump_json(), encoding="utf-8")
    if members.quantity is not None:
        (draft / QUANTITY).mkdir()
        members.quantity.save(draft / QUANTITY)
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
        metrics=_metrics(members),
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
        batch = embedded_batch([str(row) for row in range(len(embeddings_BD))], embeddings_BD, None)
        if not asked:
            return np.zeros((len(embeddings_BD), 1), dtype=np.float32)
        return fusion({name: one.score(batch).scores_BV for name, one in asked.items()})

    return score


def _notes_of_abstaining(members: Members) -> list[str]:
    """Of how many pictures those had what they need that may abstain."""
    pictures = len(members.validation)
    return [
        f"'{name}' has what it needs for {int(speaking(members.held_out.scores[name]).sum()):,} "
        f"of the {pictures:,} validation pictures, and is weighed and measured on these"
        for name in sorted(members.ensemble.fusion.optional)
    ]


def _metrics(members: Members) -> dict[str, dict[str, float]]:
    """Figures on the validation part, by annotator and for the ensemble ('fused')."""
    ensemble, scores = members.ensemble, members.held_out.scores
    truth_NV = members.validation.labels_NV.toarray() > 0
    alone = Ensemble(ensemble.fusion, replace(ensemble.cut, informed=None))
    metrics = {}
    for name, scores_NV in scores.items():
        rows_M = np.flatnonzero(speaking(scores_NV))
        if len(rows_M):
            nobody_M = np.zeros(len(rows_M), dtype=np.bool_)
            opinion = Opinion(scores_NV[rows_M], nobody_M)
            metrics[name] = _figures(alone, opinion, truth_NV[rows_M])
    fused = _figures(ensemble, joint_opinion(ensemble, members.held_out), truth_NV)
    weights = {f"weight/{name}": weight for name, weight in ensemble.fusion.weights.items()}
    return metrics | {"fused": fused | weights}


def _figures(ensemble: Ensemble, opinion: Opinion, truth_NV: NDArray[np.bool_]) -> dict[str, float]:
    words = word_metrics(ranked_tags(opinion.scores_BV, TAGS_A_PICTURE), truth_NV)
    places_NK, counts_N = ensemble.rank(opinion, "auto")
    auto_NV = given_tags(places_NK, counts_N, truth_NV.shape[1])
    return {
        "precision@5": words.precision,
        "recall@5": words.recall,
        "f1@5": words.f1,
        "n_plus@5": float(words.n_plus),
        "picture_f1@auto": picture_metrics(auto_NV, truth_NV).f1,
        "tags_a_picture@auto": float(counts_N.mean()),
        "calibration_error": calibration_error(opinion.scores_BV, truth_NV),
    }


def given_tags(
    places_NK: NDArray[np.int64], counts_N: NDArray[np.int64], tags: int
) -> NDArray[np.bool_]:
    """Which tags are given, boolean [N, V], by what `Ensemble.rank` says."""
    given_NV = np.zeros((len(places_NK), tags), dtype=np.bool_)
    rows_M, ranks_M = np.nonzero(np.arange(places_NK.shape[1]) < counts_N[:, None])
    given_NV[rows_M, places_NK[rows_M, ranks_M]] = True
    return given_NV


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
