"""The column `features`: learned before the embedding, kept in the bundle, read when annotating."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pytest

from engine import schema
from engine.annotators import REGISTRY
from engine.bundle import load_bundle, new_bundle
from engine.columns import ColumnSource, column_stage
from engine.config import FitConfig
from engine.corpus import Corpus
from engine.embed import backbone
from engine.errors import ConfigError
from engine.features import FEATURES
from engine.features.describer import Describer
from engine.fitting import Material, fit_bundle
from engine.geometry import Geometry, fit_to
from engine.group import Group, Solo
from engine.image import decode
from engine.plan import annotation_plan, embedding_geometry, embedding_plan
from engine.recipe import Annotator, Recipe, Verdict
from engine.sample import SamplePicture
from engine.tensors import Tensors
from engine.vocab import Vocabulary
from jobs import describing
from jobs.console import Console
from jobs.describing import learn_describer
from jobs.fit import embed_corpus, gather_material
from jobs.runner import RunSettings
from jobs.store import Store
from serve.stages import layout
from tests.inputs import inventory_of

WIDTH = sum(FEATURES.values())


class Mean(Annotator):
    """Scores every tag by the mean of a picture's features."""

    kind = "mean-feature"
    reads = (schema.EMBEDDING, schema.FEATURES)

    def __init__(self, vocabulary_digest: str, tags: int) -> None:
        self.vocabulary_digest = vocabulary_digest
        self.tags = tags

    def score(self, batch: pa.Table) -> Verdict:
        mean_B = schema.float_tensor(batch, schema.FEATURES).mean(axis=1)
        return Verdict(np.repeat(mean_B[:, None], self.tags, axis=1))

    def save(self, folder: Path) -> None:
        content = [self.vocabulary_digest, self.tags]
        (folder / "mean.json").write_text(json.dumps(content))

    @classmethod
    def load(cls, folder: Path) -> "Mean":
        return cls(*json.loads((folder / "mean.json").read_text()))


class MeanRecipe(Recipe):
    kind: Literal["mean-feature"] = "mean-feature"

    @property
    def columns(self) -> tuple[str, ...]:
        return (schema.FEATURES,)

    def fit(self, corpus: Corpus, vocabulary: Vocabulary, group: Group) -> Mean:
        rows = np.arange(len(corpus))
        assert corpus.columns[schema.FEATURES].take(rows).shape == (len(corpus), WIDTH)
        return Mean(vocabulary.digest, len(vocabulary))


@pytest.fixture
def config(quick_config: FitConfig, monkeypatch: pytest.MonkeyPatch) -> FitConfig:
    """The defaults with an annotator that reads features."""
    kind = type(next(iter(REGISTRY.values())))
    monkeypatch.setitem(REGISTRY, Mean.kind, kind(MeanRecipe, Mean))
    return quick_config.model_copy(update={"annotators": {"mean": MeanRecipe()}})


def test_a_bundle_describes_pictures_as_they_were_described_to_learn_from(
    pictures: list[SamplePicture],
    config: FitConfig,
    corpus_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(describing, "PICTURES", 2)
    geometry = embedding_geometry(config)
    learned = tmp_path / "work" / "features"
    learn_describer(inventory_of(corpus_folder, tmp_path), config.decode, geometry, learned)
    some = pictures[:8]
    names = [one.image_id for one in some]
    batch = pa.table({schema.IMAGE_ID: names, schema.BYTES: [one.jpeg for one in some]})
    described = embedding_plan(config, thumbnails=False, folder=tmp_path / "work").workers()(batch)
    values = schema.tensor_values(described, schema.FEATURES)
    assert values.dtype == np.float16
    tags = [one.tags for one in some]
    vocabulary = Vocabulary.learn(tags)
    corpus = Corpus(
        tuple(names),
        schema.float_tensor(described, schema.EMBEDDING),
        vocabulary.encode(tags),
        backbone(config.embed.network).levels,
        columns={schema.FEATURES: Tensors(values, np.arange(8))},
    )
    material = Material(corpus, vocabulary, {}, describer=learned)
    with new_bundle(tmp_path / "bundle", overwrite=False) as draft:
        fit_bundle(draft, material, config, Solo(), lambda _: None)
    bundle = load_bundle(tmp_path / "bundle")
    kept = {"features/features.json", "features/features.safetensors"}
    assert kept <= set(bundle.manifest.files)
    plan = annotation_plan(bundle, 3)
    assert [stage.name for stage in plan.stages] == [
        "decode",
        "embed",
        "features",
        "score/mean",
        "fuse",
    ]
    apart = [part.stages for level in layout(bundle, "split") for part in level]
    assert apart == [("decode", "embed", "features"), ("score/mean",), ("fuse",)]
    column = schema.score_column("mean")
    found = replace(plan, keeps=(*plan.keeps, column)).workers()(batch)
    scores = schema.float_tensor(found, column)[:, 0]
    # By the bundle's own way of decoding, which may differ by a level or two.
    np.testing.assert_allclose(scores, values.astype(np.float32).mean(axis=1), rtol=0.02)
    assert found.column(schema.TAGS)[0].as_py()


def test_a_corpus_is_described_while_it_is_embedded(
    cluster: None,
    pictures: list[SamplePicture],
    config: FitConfig,
    tmp_path: Path,
) -> None:
    folder = tmp_path / "corpus"
    folder.mkdir()
    lines = []
    for place, one in enumerate(pictures[:3]):
        (folder / f"{place}.jpg").write_bytes(one.jpeg if place else b"\xff\xd8broken")
        lines.append(json.dumps({"file": f"{place}.jpg", "tags": one.tags}))
    (folder / "annotations.jsonl").write_text("\n".join(lines))
    work = Store(str(tmp_path / "work"))
    embedded = embed_corpus(str(folder), work, config, Console(quiet=True), RunSettings(workers=1))
    material = gather_material(str(folder), embedded, config)
    assert len(material.corpus) == 2
    assert material.describer == tmp_path / "work" / "features"
    kept = material.corpus.columns[schema.FEATURES].take(np.arange(2))
    geometry = embedding_geometry(config)
    squares = [fit_to(decode(one.jpeg, config.decode), geometry) for one in pictures[1:3]]
    describer = Describer.load(material.describer)
    expected = describer.matrix(squares)
    np.testing.assert_array_equal(kept, expected)
    assert describer.names == tuple(FEATURES)


def test_the_column_needs_a_folder() -> None:
    source = ColumnSource("random", Geometry("squash", 64), None)
    with pytest.raises(ConfigError, match="describer"):
        column_stage(schema.FEATURES, source)
