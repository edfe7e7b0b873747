"""From an embedded corpus to a bundle that tags pictures, and the same bundle every time."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from engine import schema
from engine.bundle import Bundle, load_bundle, new_bundle
from engine.config import FitConfig, load_config
from engine.corpus import Corpus, split_rows
from engine.cut import TopK
from engine.errors import ConfigError, CorpusError
from engine.fitting import Material, fit_bundle, score_corpus
from engine.group import Solo
from engine.plan import annotation_plan
from engine.sample import SamplePicture
from engine.stage import Resources

SETTINGS = ["embed.backbone=random", "embed.compute=torch"]
QUICK = [*SETTINGS, 'annotators={near={kind="cca-knn",tag_vectors="binary"},base={kind="prior"}}']


def fit(folder: Path, material: Material, config: FitConfig) -> Bundle:
    with new_bundle(folder, overwrite=False) as draft:
        fit_bundle(draft, material, config, Solo(), lambda step: None)
    return load_bundle(folder)


@pytest.fixture(scope="module")
def said() -> list[str]:
    return []


@pytest.fixture(scope="module")
def bundle(
    material: Material,
    quick_config: FitConfig,
    said: list[str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Bundle:
    folder = tmp_path_factory.mktemp("fitting") / "bundle"
    with new_bundle(folder, overwrite=False) as draft:
        manifest = fit_bundle(draft, material, quick_config, Solo(), said.append)
    loaded = load_bundle(folder)
    assert loaded.manifest.model_copy(update={"files": {}}) == manifest
    return loaded


def annotated(bundle: Bundle, batch: pa.Table, top_k: TopK = 5) -> pa.Table:
    return annotation_plan(bundle, top_k).workers()(batch)


def batch_of(pictures: list[SamplePicture]) -> pa.Table:
    return pa.table(
        {
            schema.IMAGE_ID: [picture.image_id for picture in pictures],
            schema.BYTES: [picture.jpeg for picture in pictures],
            "caption": [" ".join(picture.tags) for picture in pictures],
        }
    )


def test_the_bundle_says_what_it_was_made_from(
    bundle: Bundle, material: Material, quick_config: FitConfig, said: list[str]
) -> None:
    manifest = bundle.manifest
    assert list(manifest.annotators) == list(quick_config.annotators)
    assert manifest.vocabulary == material.vocabulary.digest
    assert bundle.vocabulary == material.vocabulary
    assert set(manifest.metrics) == {*quick_config.annotators, "fused"}
    weights = [manifest.metrics["fused"][f"weight/{name}"] for name in quick_config.annotators]
    assert sum(weights) == pytest.approx(1)
    figures = manifest.metrics["fused"]
    assert 0 < figures["f1@5"] < 1
    assert 1 <= figures["tags_a_picture@auto"] <= 20
    assert figures["calibration_error"] < 0.1
    assert all(any(name in step for step in said) for name in quick_config.annotators)
    bundle.check_backbone()
    picture = material.corpus.ids[3]
    assert bundle.thumbnails.get(picture) == material.thumbnails[picture]


def test_it_tags_pictures_with_scores_and_neighbours(
    bundle: Bundle, pictures: list[SamplePicture]
) -> None:
    shown = pictures[:24]
    out = annotated(bundle, batch_of(shown))
    assert out.column(schema.IMAGE_ID).to_pylist() == [one.image_id for one in shown]
    assert out.column("caption").to_pylist() == [" ".join(one.tags) for one in shown]
    assert out.schema.field(schema.TAGS).type == schema.SCORED_TAGS
    assert out.schema.field(schema.NEIGHBOURS).type == schema.NEIGHBOUR_LIST
    assert out.column(schema.BUNDLE_ID).to_pylist() == [bundle.id] * 24
    assert out.column(schema.ERROR).null_count == 24
    right = 0
    for picture, row in zip(shown, out.to_pylist(), strict=True):
        scores = [tag["score"] for tag in row[schema.TAGS]]
        assert len(scores) == 5
        assert scores == sorted(scores, reverse=True)
        assert 0 <= min(scores) <= max(scores) <= 1
        distances = [item["distance"] for item in row[schema.NEIGHBOURS]]
        assert distances == sorted(distances)
        assert row[schema.NEIGHBOURS][0]["image_id"] == picture.image_id
        right += len({tag["tag"] for tag in row[schema.TAGS]} & set(picture.tags))
    # It has seen these pictures, tags and all, so that more than half must come back.
    assert right > 0.5 * sum(min(5, len(picture.tags)) for picture in shown)
    assert not {schema.PIXELS, schema.EMBEDDING, schema.BYTES} & set(out.column_names)


def test_a_broken_picture_keeps_its_row_and_harms_no_other(
    bundle: Bundle, pictures: list[SamplePicture]
) -> None:
    good = pictures[:3]
    whole = annotated(bundle, batch_of(good)).to_pylist()
    broken = replace(pictures[3], jpeg=pictures[3].jpeg[:200])
    empty = replace(pictures[4], jpeg=b"")
    out = annotated(bundle, batch_of([empty, *good, broken])).to_pylist()
    assert [row[schema.ERROR] for row in out] == ["empty", None, None, None, "truncated"]
    assert out[0][schema.TAGS] is None
    assert out[4][schema.REASON]
    assert out[1:4] == whole


def test_the_way_in_segments_is_the_way_in_one(
    bundle: Bundle, pictures: list[SamplePicture]
) -> None:
    batch = batch_of([replace(pictures[0], jpeg=b"x"), *pictures[:6]])
    plan = annotation_plan(bundle, "auto", {"embed": Resources(gpus=1)})
    segments = plan.segments()
    assert len(segments) == 3
    whole = annotated(bundle, batch, "auto")
    for segment in segments:
        batch = segment.workers()(batch)
    assert set(batch.column_names) == set(whole.column_names)
    assert batch.select(whole.column_names).to_pylist() == whole.to_pylist()


def test_among_gives_those_words_alone(bundle: Bundle, pictures: list[SamplePicture]) -> None:
    words = bundle.vocabulary.tags[5:8]
    plan = annotation_plan(bundle, 5, among=(*words, "no-such-word"))
    for row in plan.workers()(batch_of(pictures[:4])).to_pylist():
        assert sorted(tag["tag"] for tag in row[schema.TAGS]) == sorted(words)


def test_the_same_corpus_and_settings_give_the_same_bundle(
    material: Material, tmp_path: Path
) -> None:
    config = load_config(None, QUICK)
    one, other = (fit(tmp_path / name, material, config) for name in ("one", "other"))
    assert one.id == other.id
    assert one.manifest.files == other.manifest.files
    changed = load_config(None, [*QUICK, "seed=1"])
    assert fit(tmp_path / "changed", material, changed).id != one.id


def test_a_changed_corpus_is_another_bundle(material: Material, tmp_path: Path) -> None:
    config = load_config(None, QUICK)
    corpus = material.corpus
    less = replace(material, corpus=corpus.subset(np.arange(len(corpus) - 1)))
    prints = [
        fit(tmp_path / name, one, config).manifest.fingerprints
        for name, one in (("whole", material), ("less", less))
    ]
    assert prints[0]["corpus"] != prints[1]["corpus"]
    assert prints[0]["config"] == prints[1]["config"]


def test_refit_learns_from_the_validation_part_too(material: Material, tmp_path: Path) -> None:
    ids = {}
    for refit in ("true", "false"):
        made = fit(tmp_path / refit, material, load_config(None, [*QUICK, f"refit={refit}"]))
        content = made.folder / "annotators" / "near" / "transfer.json"
        ids[refit] = set(json.loads(content.read_text(encoding="utf-8"))["ids"])
    training, validation = split_rows(material.corpus.ids, 0.1, seed=0)
    assert ids["true"] == set(material.corpus.ids)
    assert ids["false"] == {material.corpus.ids[row] for row in training}
    assert len(validation) == 28


def test_a_large_corpus_validates_on_a_few_of_any_place_in_it(
    material: Material, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.members.VALIDATION_AT_MOST", 20)
    config = load_config(None, [*QUICK, "refit=false", "validation=0.5"])
    made = fit(tmp_path / "bundle", material, config)
    content = (made.folder / "annotators" / "near" / "transfer.json").read_text(encoding="utf-8")
    ids = material.corpus.ids
    held_out = [ids.index(one) for one in set(ids) - set(json.loads(content)["ids"])]
    assert len(held_out) == 20
    assert min(held_out) < len(ids) / 4 < len(ids) * 3 / 4 < max(held_out)


def test_the_figures_are_of_pictures_that_were_not_learned_from(
    material: Material, tmp_path: Path
) -> None:
    """Tags dealt out at random cannot be learned; only a look at the answers would find them."""
    rng = np.random.default_rng(0)
    corpus = material.corpus
    dealt = Corpus(
        corpus.ids,
        corpus.embeddings_ND,
        corpus.labels_NV[rng.permutation(len(corpus))],
        corpus.levels,
    )
    config = load_config(None, [*QUICK, "validation=0.3"])
    metrics = fit(tmp_path / "dealt", replace(material, corpus=dealt), config).manifest.metrics
    base, near = metrics["base"]["picture_f1@auto"], metrics["near"]["picture_f1@auto"]
    assert near < base + 0.05
    assert metrics["fused"]["calibration_error"] < 0.05


def test_two_pictures_are_enough_and_one_is_not(material: Material, tmp_path: Path) -> None:
    config = load_config(None, [*SETTINGS, 'annotators={base={kind="prior"}}'])
    two = replace(material, corpus=material.corpus.subset(np.array([0, 1])))
    assert fit(tmp_path / "two", two, config).id
    one = replace(material, corpus=material.corpus.subset(np.array([0])))
    with pytest.raises(CorpusError, match="at least two"):
        fit(tmp_path / "one", one, config)
    assert not (tmp_path / "one").exists()


def with_social(batch: pa.Table, words: list[list[str] | None]) -> pa.Table:
    kind = schema.OPTIONAL[schema.SOCIAL_TAGS]
    return batch.append_column(schema.SOCIAL_TAGS, pa.array(words, kind))


SOCIAL = [*SETTINGS, 'annotators={base={kind="linear"},social={kind="social"}}']
NO_SOCIAL = [*SETTINGS, 'annotators={base={kind="linear"}}']


@pytest.mark.parametrize("top_k", [5, "auto"])
def test_social_tags_mend_what_the_picture_shows_and_are_not_missed(
    material: Material, pictures: list[SamplePicture], tmp_path: Path, top_k: TopK
) -> None:
    """With them the tags are better; without them as if nothing of the kind had been learned."""
    _, held_out = split_rows(material.corpus.ids, 0.3, seed=9)
    unseen = set(held_out.tolist())
    seen = np.array([row for row in range(len(material.corpus)) if row not in unseen])
    learned = replace(material, corpus=material.corpus.subset(seen))
    made = fit(tmp_path / "social", learned, load_config(None, SOCIAL))
    plain = fit(tmp_path / "plain", learned, load_config(None, NO_SOCIAL))
    shown = [pictures[row] for row in held_out]
    batch = batch_of(shown)
    without, silent = annotated(plain, batch, top_k), annotated(made, batch, top_k)
    for one, other in zip(without.to_pylist(), silent.to_pylist(), strict=True):
        assert [tag["tag"] for tag in one[schema.TAGS]] == [
            tag["tag"] for tag in other[schema.TAGS]
        ]
        assert [tag["score"] for tag in one[schema.TAGS]] == pytest.approx(
            [tag["score"] for tag in other[schema.TAGS]], abs=1e-6
        )
    words = [list(picture.social_tags) for picture in shown]
    informed = annotated(made, with_social(batch, words), top_k)
    before, after = (picture_f1(shown, table) for table in (silent, informed))
    assert after > before + 0.1
    assert informed.column(schema.SOCIAL_TAGS).to_pylist() == words


def picture_f1(shown: list[SamplePicture], table: pa.Table) -> float:
    given = [{one["tag"] for one in row} for row in table.column(schema.TAGS).to_pylist()]
    right = sum(len(tags & set(p.tags)) for p, tags in zip(shown, given, strict=True))
    return 2 * right / (sum(map(len, given)) + sum(len(p.tags) for p in shown))


def test_a_fit_tells_how_many_pictures_social_tags_were_measured_on(
    material: Material, tmp_path: Path
) -> None:
    config = load_config(None, SOCIAL)
    manifest = fit(tmp_path / "some", material, config).manifest
    assert any(note.startswith("'social' has what it needs for ") for note in manifest.notes)
    assert manifest.metrics["social"]["f1@5"] > 0.1
    _, held_out = split_rows(material.corpus.ids, config.validation, config.seed)
    unsaid = set(held_out.tolist())
    social = material.corpus.social_tags
    assert social is not None
    corpus = replace(
        material.corpus,
        social_tags=tuple(() if n in unsaid else words for n, words in enumerate(social)),
    )
    other = fit(tmp_path / "none", replace(material, corpus=corpus), config).manifest
    assert "'social' has what it needs for 0 of the 28 validation" in " ".join(other.notes)
    assert "social" not in other.metrics
    assert manifest.fingerprints["corpus"] != other.fingerprints["corpus"]


def test_social_tags_are_not_learned_from_a_corpus_without_any(
    material: Material, tmp_path: Path
) -> None:
    corpus = replace(material.corpus, social_tags=None)
    with pytest.raises(ConfigError, match="`social_tags`, but no picture of the corpus"):
        fit(tmp_path / "x", replace(material, corpus=corpus), load_config(None, SOCIAL))
    assert not (tmp_path / "x").exists()
    with pytest.raises(ConfigError, match="abstain from pictures without social tags"):
        load_config(None, ['annotators={social={kind="social"}}'])


def test_without_thumbnails_there_are_none(material: Material, tmp_path: Path) -> None:
    made = fit(tmp_path / "plain", replace(material, thumbnails={}), load_config(None, QUICK))
    assert made.thumbnails.get(material.corpus.ids[0]) is None


def test_a_corpus_is_scored_block_by_block_in_order(bundle: Bundle, material: Material) -> None:
    annotator = bundle.annotator("linear")
    corpus = material.corpus
    whole_NV = score_corpus(annotator, corpus)
    assert whole_NV.shape == corpus.labels_NV.shape
    part_MV = score_corpus(annotator, corpus.subset(np.array([270, 3])))
    np.testing.assert_allclose(part_MV, whole_NV[[270, 3]], atol=2e-5)
