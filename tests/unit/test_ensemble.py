"""How many tags, in whose order, by which rules: from opinions to what a bundle gives and serves."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from engine import schema
from engine.answer import Ask
from engine.bundle import Bundle, load_bundle, new_bundle
from engine.calibration import Calibration
from engine.config import FitConfig, load_config
from engine.corpus import split_rows
from engine.cut import Cut
from engine.ensemble import OWN, Ensemble, Opinion
from engine.errors import BundleError, ConfigError, CorpusError
from engine.fitting import Material, fit_bundle
from engine.fusion import Fusion
from engine.group import Solo
from engine.members import fit_members, joint_opinion, statements
from engine.numerics.metrics import calibration_error
from engine.plan import annotation_plan
from engine.sample import SamplePicture
from engine.vocabulary_rules import VocabularyRules
from serve.pipeline import Picture, _to_table
from serve.stages import BundleRef, Fold, join, layout, reads_of, sliced, wanted_plan

PLAIN = Fusion({"a": 1.0}, {"a": Calibration()}, Calibration())
SCORES_BV = np.array([[0.9, 0.1, 0.6, 0.4], [0.2, 0.3, 0.1, 0.8], [0.5, 0.4, 0.3, 0.2]], np.float32)


def opinion(quantity: list[float] | None = None, order: list[list[float]] | None = None) -> Opinion:
    return Opinion(
        SCORES_BV,
        np.zeros(3, np.bool_),
        None if quantity is None else np.array(quantity, np.float32),
        None if order is None else np.array(order, np.float32),
    )


def given(ensemble: Ensemble, said: Opinion, *asked: object) -> list[list[int]]:
    places_BK, counts_B = ensemble.rank(said, *asked)
    return [places_BK[row, :count].tolist() for row, count in enumerate(counts_B)]


def test_auto_gives_as_many_as_are_predicted() -> None:
    ensemble = Ensemble(PLAIN, Cut(0.35, most=3), counter=OWN)
    nan = float("nan")
    assert given(ensemble, opinion([2.4, -1.0, 2.5]), "auto") == [[0, 2], [3], [0, 1, 2]]
    assert given(ensemble, opinion([99, nan, nan]), "auto") == [[0, 2, 3], [3], [0, 1]]
    assert given(ensemble, opinion([1, 1, 1]), 2) == [[0, 2], [3, 1], [0, 1]]
    # The number is that of all the picture's tags: of some tags, those among its so many best.
    among = np.array([1, 2, 3])
    assert given(ensemble, opinion([2, 2, 1]), "auto", among) == [[2], [3, 1], [1]]
    # Where there are few scores above zero, the others do not all come along.
    sparse = replace(opinion([3, 1, 2]), scores_BV=np.float32([[0, 0.5, 0, 0]] * 3))
    every = np.arange(4)
    assert given(ensemble, sparse, "auto", every) == [[1, 0, 2], [1], [1, 0]]
    assert given(ensemble, sparse, "auto", every) == given(ensemble, sparse, "auto")
    loose = ensemble.with_threshold(0.55)
    assert given(loose, opinion([1, 1, 1]), "auto") == [[0, 2], [3], []]
    assert given(loose, opinion([1, 1, 1]), 1) == [[0], [3], []]


def test_the_tags_that_are_given_come_in_an_annotators_order() -> None:
    nan = float("nan")
    order = [[0.1, 0.9, 0.2, 0.3], [0.5, 0.5, 0.5, 0.5], [nan, nan, nan, nan]]
    ensemble = Ensemble(PLAIN, Cut(0.35), orderer="a")
    assert given(ensemble, opinion(order=order), "auto") == [[3, 2, 0], [3], [0, 1]]
    assert given(ensemble, opinion(order=order), 2) == [[2, 0], [3, 1], [0, 1]]


def test_each_tag_has_its_threshold() -> None:
    ensemble = Ensemble(PLAIN, Cut(0.35, most=3, by_tag=(0.95, 0.05, 0.7, 0.3)))
    # The best is given whatever its threshold is.
    assert given(ensemble, opinion(), "auto") == [[0, 3, 1], [3, 1], [0, 1]]
    assert given(ensemble, opinion(), "auto", np.array([1, 2])) == [[2, 1], [1], [1]]
    assert given(ensemble, opinion(), 2) == [[0, 2], [3, 1], [0, 1]]


def test_save_and_load_is_the_identity(tmp_path: Path) -> None:
    course = ((0, {"a": 1.0}), (7, {"a": 1.0}))
    ensemble = Ensemble(replace(PLAIN, course=course), Cut(0.1, by_tag=(0.1, 0.2)), "x", "y")
    ensemble.save(tmp_path)
    assert Ensemble.load(tmp_path) == ensemble
    (tmp_path / "ensemble.json").write_text("[]", encoding="utf-8")
    with pytest.raises(BundleError, match=r"ensemble\.json"):
        Ensemble.load(tmp_path)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("order=nobody", "order is 'nobody', but there is no annotator"),
        ('count={method="lqp",from="nobody"}', r"count\.from is 'nobody'"),
        ('count={from="linear"}', r"count\.method is 'threshold'"),
        ("count.method=many", r"count\.method"),
        ("calibration=some", "calibration"),
    ],
)
def test_who_is_not_there_neither_counts_nor_orders(override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config(None, [override])


LQP = (
    'count={method="lqp",lqp={hidden=[16],optimisation={epochs=4,batch=32}}}',
    "calibration=tags",
    "order=near",
    'annotators={near={kind="cca-knn",tag_vectors="binary"},base={kind="prior"}}',
    "embed.backbone=random",
    "embed.compute=torch",
)


@pytest.fixture(scope="module")
def bundle(material: Material, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return fitted(material, load_config(None, LQP), tmp_path_factory.mktemp("ensembles") / "lqp")


def fitted(material: Material, config: FitConfig, folder: Path) -> Bundle:
    with new_bundle(folder, overwrite=False) as draft:
        fit_bundle(draft, material, config, Solo(), lambda _: None)
    return load_bundle(folder)


def batch_of(pictures: list[SamplePicture]) -> pa.Table:
    return pa.table(
        {
            schema.IMAGE_ID: [one.image_id for one in pictures],
            schema.BYTES: [one.jpeg for one in pictures],
        }
    )


def tags_of(table: pa.Table) -> list[list[str]]:
    return [[one["tag"] for one in row] for row in table.column(schema.TAGS).to_pylist()]


def test_a_bundle_counts_and_orders_as_its_members_do(
    bundle: Bundle, material: Material, pictures: list[SamplePicture]
) -> None:
    shown = np.arange(12)
    corpus = material.corpus.subset(shown)
    names = list(bundle.manifest.annotators)
    annotators = {name: bundle.annotator(name) for name in names}
    said = statements(annotators, corpus, bundle.quantity)
    places_BK, counts_B = bundle.ensemble.rank(joint_opinion(bundle.ensemble, said), "auto")
    expected = [
        [bundle.vocabulary.tags[place] for place in row[:count]]
        for row, count in zip(places_BK, counts_B, strict=True)
    ]
    batch = batch_of(pictures[:12])
    assert tags_of(annotation_plan(bundle, "auto").workers()(batch)) == expected
    wanted_B = np.floor(said.quantities[OWN].astype(np.float64) + 0.5)
    np.testing.assert_array_equal(counts_B, np.clip(wanted_B, 1, 20))
    assert len(set(counts_B.tolist())) > 1
    for row, tags in enumerate(expected):
        near = [said.scores["near"][row, bundle.vocabulary.index[tag]] for tag in tags]
        assert near == sorted(near, reverse=True)
    assert bundle.fusion.course[0][0] == 0
    assert bundle.fusion.course[-1][0] > 50
    assert bundle.fusion.calibrations["near"].slopes is not None


@pytest.mark.parametrize("topology", ["fused", "split"])
def test_it_is_served_as_it_annotates(
    topology: str, bundle: Bundle, pictures: list[SamplePicture]
) -> None:
    tagged = replace(bundle, rules=VocabularyRules(aliases={bundle.vocabulary.tags[0]: "renamed"}))
    ref = BundleRef(str(bundle.folder), bundle.id, tagged.rules)
    table = _to_table([Picture(one.image_id, one.jpeg) for one in pictures[:5]], Ask("auto"))
    for level in layout(tagged, topology):
        parts = []
        for part in level:
            plan = sliced(wanted_plan(tagged, "tags"), part.stages)
            parts.append(Fold(ref, part.stages)("tags", table.select(reads_of(plan))).table)
        table = join(table, parts)
    expected = annotation_plan(tagged, "auto").workers()(batch_of(pictures[:5]))
    assert tags_of(table) == tags_of(expected)
    plain = annotation_plan(bundle, "auto").workers()(batch_of(pictures[:5]))
    first = bundle.vocabulary.tags[0]
    renamed = [["renamed" if tag == first else tag for tag in tags] for tags in tags_of(plain)]
    assert tags_of(expected) == renamed
    assert any("renamed" in tags for tags in renamed)


def test_rules_change_a_bundles_tags_without_a_fit(
    bundle: Bundle, pictures: list[SamplePicture]
) -> None:
    common, second, third = bundle.vocabulary.tags[:3]
    rules = VocabularyRules(exclude=[common], implied={second: [third]}, groups={"two": [second]})
    batch = batch_of(pictures[:12])
    plain = tags_of(annotation_plan(bundle, 4).workers()(batch))
    assert any(common in tags for tags in plain)
    changed = annotation_plan(replace(bundle, rules=rules), len(bundle.vocabulary))
    for row in changed.workers()(batch).column(schema.TAGS).to_pylist():
        scores = {one["tag"]: one["score"] for one in row}
        assert common not in scores
        assert scores[third] >= scores[second]
    only = replace(bundle, rules=rules.model_copy(update={"include": ("two",), "exclude": ()}))
    assert tags_of(annotation_plan(only, 4).workers()(batch)) == [[second]] * 12
    with pytest.raises(ConfigError, match="'no-such' matches no tag of the bundle"):
        annotation_plan(replace(bundle, rules=VocabularyRules(exclude=["no-such"])), 4)


def test_an_annotator_that_says_no_number_is_refused(material: Material) -> None:
    config = load_config(None, ['count={method="lqp",from="base"}', LQP[3], *LQP[4:]])
    with pytest.raises(ConfigError, match="'base', but that annotator does not say how many"):
        fit_members(config, material.corpus, material.vocabulary, Solo())
    one = material.corpus.subset(np.array([0]))
    with pytest.raises(CorpusError, match="at least two"):
        fit_members(config, one, material.vocabulary, Solo())


def test_pictures_that_nobody_saw_are_calibrated(material: Material) -> None:
    """Scores that are far from probabilities come out at less than a third of their error."""
    training, held_out = split_rows(material.corpus.ids, 0.3, seed=4)
    config = load_config(None, [*LQP[1:2], *LQP[3:], "validation=0.4", "lift=0"])
    members = fit_members(config, material.corpus.subset(training), material.vocabulary, Solo())
    unseen = material.corpus.subset(held_out)
    truth_NV = unseen.labels_NV.toarray() > 0
    said = statements(members.annotators, unseen)
    before = calibration_error(said.scores["near"], truth_NV)
    calibrated_NV = members.ensemble.fusion.calibrations["near"](said.scores["near"])
    assert calibration_error(calibrated_NV, truth_NV) < before / 3
    assert calibration_error(members.opinion(unseen).scores_BV, truth_NV) < before / 3
