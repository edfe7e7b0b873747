"""Bundles of any size: a real one's backbone with random numbers for what would be learned."""

import shutil
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from engine.annotators.cca_knn import CcaKnn, CcaKnnRecipe
from engine.annotators.linear import Linear
from engine.bundle import load_bundle, new_bundle, seal_bundle
from engine.calibration import Calibration
from engine.cca_space import ImageProjection, correlation_normalised
from engine.cut import Cut
from engine.embed import backbone
from engine.ensemble import Ensemble
from engine.fusion import Fusion
from engine.index import ArrayVectors, IndexWish, build_index
from engine.placement import Placement
from engine.vocab import Vocabulary

TAGS_A_PICTURE = 4


def bundle_with(real: Path, folder: Path, tags: int, pictures: int, width: int = 384) -> Path:
    """Write a bundle of `tags` tags learned from `pictures` pictures; needs as many as tags.

    Args:
        real: gives the backbone, its graph, and the limits.
        width: of the vectors in the index, as the default configuration keeps it.
    """
    rng = np.random.default_rng(0)
    original = load_bundle(real)
    levels = backbone(original.manifest.backbone.name).levels
    depth = sum(levels)
    vocabulary = Vocabulary(tuple(f"tag {number}" for number in range(tags)), (1,) * tags)
    vectors = correlation_normalised(rng.standard_normal((pictures, width), dtype=np.float32))
    nearest = CcaKnn(
        CcaKnnRecipe(),
        Placement(
            ImageProjection(
                levels,
                np.zeros(depth, dtype=np.float32),
                rng.standard_normal((depth, width), dtype=np.float32),
            )
        ),
        build_index(ArrayVectors(vectors), IndexWish()),
        _labels(rng, pictures, tags),
        tuple(str(number) for number in range(pictures)),
        vocabulary.digest,
    )
    linear = Linear(
        levels,
        rng.standard_normal((depth, tags), dtype=np.float32) / 8,
        np.full(tags, -4, dtype=np.float32),
        vocabulary.digest,
    )
    fitted = {"cca-knn": nearest, "linear": linear}
    fusion = Fusion(
        dict.fromkeys(fitted, 0.5),
        dict.fromkeys(fitted, Calibration(0.9, -0.1)),
        Calibration(1.1, 0.1),
        rng.uniform(0.5, 1, tags).astype(np.float32),
    )
    with new_bundle(folder, overwrite=True) as draft:
        if (real / "graph").is_dir():
            shutil.copytree(real / "graph", draft / "graph")
        vocabulary.save(draft / "vocabulary.json")
        Ensemble(fusion, Cut()).save(draft)
        for name, annotator in fitted.items():
            (draft / "annotators" / name).mkdir(parents=True)
            annotator.save(draft / "annotators" / name)
        kinds = {name: annotator.kind for name, annotator in fitted.items()}
        changes = {"vocabulary": vocabulary.digest, "annotators": kinds, "files": {}}
        seal_bundle(draft, original.manifest.model_copy(update=changes))
    return folder


def _labels(rng: np.random.Generator, pictures: int, tags: int) -> sparse.csr_matrix:
    """A few tags a picture, the first ones often and the last ones seldom; each at least once."""
    ranks = np.minimum(tags * rng.random((pictures, TAGS_A_PICTURE)) ** 3, tags - 1).astype(
        np.int32
    )
    ranks[:tags, 0] = np.arange(tags)
    rows = [np.unique(row) for row in ranks]
    indptr = np.concatenate([[0], np.cumsum([len(row) for row in rows])])
    indices: NDArray[np.int32] = np.concatenate(rows)
    ones = np.ones(len(indices), dtype=np.float32)
    return sparse.csr_matrix((ones, indices, indptr), shape=(pictures, tags))
