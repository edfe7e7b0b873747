"""A bundle without a corpus: the backbone's own ImageNet classes, as the tags people use."""

import hashlib
from pathlib import Path

import numpy as np

from engine.accuracy import choose_way
from engine.annotators.class_posterior import ClassPosterior
from engine.bundle import new_bundle, seal_bundle
from engine.calibration import Calibration
from engine.config import EmbedConfig, FitConfig
from engine.cut import Cut
from engine.embed import Compute, backbone, class_head
from engine.ensemble import Ensemble
from engine.fusion import Fusion
from engine.image import DecodeLimits
from engine.imagenet import class_tags
from engine.manifest import BackboneEntry, Manifest
from engine.vocab import Vocabulary
from engine.wordnet import find_wordnet

NAME = "imagenet"
"""What a user writes in the place of a bundle's folder."""

THRESHOLD = 0.1
"""For 'auto': below it, pictures on which the classifier recognises nothing get chance tags."""


def write_imagenet_bundle(
    folder: Path, backbone_name: str = "efficientnet-lite2", compute: Compute = "auto"
) -> None:
    """Write the bundle of a backbone's classes; replaces an older one in its place.

    The scores are the classifier's, corrected for chance, and not calibrated on any tagged
    pictures, for there are none.

    Raises:
        BackboneError: the backbone has no classifier, or its weights cannot be had.
    """
    classes = class_tags(find_wordnet())
    weights_DC, bias_C = class_head(backbone_name)
    tags_CV = classes.membership_CV.toarray().astype(np.float32)
    chance_V = tags_CV.mean(axis=0)
    vocabulary = Vocabulary(classes.tags, tuple(int(n) for n in tags_CV.sum(axis=0)))
    annotator = ClassPosterior(
        weights_DC,
        bias_C,
        tags_CV,
        chance_V,
        (classes.weights_V / (1 - chance_V)).astype(np.float32),
        vocabulary.digest,
    )
    with new_bundle(folder, overwrite=True) as draft:
        vocabulary.save(draft / "vocabulary.json")
        fusion = Fusion({NAME: 1.0}, {NAME: Calibration()}, Calibration())
        Ensemble(fusion, Cut(threshold=THRESHOLD)).save(draft)
        place = draft / "annotators" / NAME
        place.mkdir(parents=True)
        annotator.save(place)
        spec = backbone(backbone_name)
        asked = FitConfig(embed=EmbedConfig(backbone=backbone_name, compute=compute))
        way = choose_way(draft, asked, (), lambda _: np.zeros((0, len(vocabulary)), np.float32))
        digest = hashlib.sha256(f"{NAME} {backbone_name}".encode()).hexdigest()
        manifest = Manifest(
            vocabulary=vocabulary.digest,
            backbone=BackboneEntry(
                name=spec.name,
                weights_sha256=spec.weights_sha256(),
                geometry=spec.geometry,
                compute=way.compute,
                pixels=way.pixels,
                graph=way.graph,
            ),
            limits=DecodeLimits(),
            annotators={NAME: ClassPosterior.kind},
            fingerprints={"corpus": "", "config": digest},
            metrics={},
            notes=("tags are ImageNet's classes and the words above them; nothing was learned",),
        )
        seal_bundle(draft, manifest)
