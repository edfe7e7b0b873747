"""Vocabulary rules for a bundle of drawn pictures, and what they make of its scores."""

from collections.abc import Mapping, Sequence

import pyarrow as pa

from engine import schema
from engine.bundle import Bundle
from engine.plan import annotation_plan
from engine.sample import SamplePicture

RULES = """
include = ["vehicles", "s?y", "s*w", "SEA", "house", "cottage", "cat", "sofa"]
exclude = ["traffic *", "bus"]
min_count = 12

[aliases]
lake = "sea"
river = "Lake"
house = "cottage"
chair = "sofa"

[groups]
vehicles = ["car", "bu?", "boat", "traffic*"]

[implied]
ship = ["boat"]
boat = "sea"
"""
SOURCES = {
    "sky": ["sky"],
    "snow": ["snow"],
    "cottage": ["house"],
    "sofa": ["sofa", "chair"],
    "car": ["car"],
    "boat": ["boat", "ship"],
    "sea": ["sea", "lake", "river", "boat", "ship"],
}
"""What may be given by these rules, and the bundle's tags that speak for it: cats
are too rare, and so were sofas without the chairs."""


def without_rules(bundle: Bundle, pictures: Sequence[SamplePicture]) -> list[dict[str, float]]:
    """Of each picture the score of every tag, as the bundle gives it by itself."""
    batch = pa.table(
        {
            schema.IMAGE_ID: [one.image_id for one in pictures],
            schema.BYTES: [one.jpeg for one in pictures],
        }
    )
    given = annotation_plan(bundle, len(bundle.vocabulary)).workers()(batch)
    return [
        {one["tag"]: one["score"] for one in row} for row in given.column(schema.TAGS).to_pylist()
    ]


def by_rules(scores: Mapping[str, float]) -> dict[str, float]:
    """The scores of the tags that may be given by `RULES`, of those without."""
    return {tag: max(scores[one] for one in names) for tag, names in SOURCES.items()}
