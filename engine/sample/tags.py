"""From what can be seen in a picture to its tags, and from those to what users would write."""

from collections.abc import Mapping, Sequence
from functools import cache

import numpy as np
import numpy.typing as npt

from engine.sample.noise import FloatImage

TAGS: tuple[str, ...] = (
    "balloon", "barn", "beach", "bench", "bicycle", "bird", "boat", "book", "bridge", "building",
    "bus", "bush", "butterfly", "cactus", "camel", "candle", "car", "castle", "cat", "chair",
    "church", "city", "cloud", "cow", "cup", "desert", "dog", "duck", "elephant", "fence",
    "field", "fish", "flower", "fog", "forest", "fruit", "giraffe", "grass", "harbour", "hill",
    "horse", "house", "island", "kite", "lake", "lamp", "lighthouse", "moon", "mountain", "night",
    "palm", "penguin", "person", "plane", "rainbow", "river", "road", "rock", "sea", "sheep",
    "ship", "sky", "snow", "snowman", "sofa", "star", "sun", "sunset", "table", "tent", "tractor",
    "traffic light", "train", "tree", "truck", "umbrella", "vase", "windmill", "window",
)  # fmt: skip

MOST_TAGS = 8
_SURFACES = frozenset(
    ("beach", "cloud", "desert", "field", "grass", "hill", "lake", "mountain", "river",
     "road", "sea", "sky", "snow")
)  # fmt: skip
_LEAST_SURFACE = 0.035
_LEAST_THING = 0.005
_LEAST_SPECK = 0.0012
_SPECKS = frozenset(("star", "bird", "sun", "traffic light", "kite"))
_LEAST_SHOWING = 0.3

_HABITS: tuple[str, ...] = (
    "holiday", "nikon", "canon", "travel", "2009", "summer", "photo", "family", "trip", "art",
    "iphone", "weekend", "nature", "me", "explore", "vacation", "colour", "europe", "cute", "fun",
)  # fmt: skip


@cache
def centrality(height: int, width: int) -> FloatImage:
    """How central each pixel is: (height, width) float32, 1 in the middle, 0.13 in corners."""
    y = (np.arange(height) + 0.5) / height - 0.5
    x = (np.arange(width) + 0.5) / width - 0.5
    return np.exp(-4.0 * (y[:, None] ** 2 + x[None, :] ** 2)).astype(np.float32)


def importances(
    ids: npt.NDArray[np.uint8],
    thing_tags: Sequence[str],
    drawn: Sequence[float],
    settings: Mapping[str, Sequence[int]],
) -> dict[str, float]:
    """Visible area times centrality by tag, for the tags that can truly be seen.

    `ids` is (H, W), the thing each pixel shows; `thing_tags` names each id ("" none); `drawn`
    counts the pixels each had when it was drawn, in the same unit as `ids`; `settings` lists the
    ids that make up a setting. A thing is left out when it is too small, or mostly hidden.
    """
    flat = ids.ravel()
    count = len(thing_tags)
    areas = np.bincount(flat, minlength=count)
    weights = np.bincount(flat, weights=centrality(*ids.shape).ravel(), minlength=count)
    total = float(flat.size)
    area_of: dict[str, float] = {}
    weight_of: dict[str, float] = {}

    def count_in(tag: str, thing: int) -> None:
        area_of[tag] = area_of.get(tag, 0.0) + float(areas[thing])
        weight_of[tag] = weight_of.get(tag, 0.0) + float(weights[thing])

    for thing, tag in enumerate(thing_tags):
        hidden = areas[thing] < _LEAST_SHOWING * drawn[thing]
        if tag and tag not in settings and (tag in _SURFACES or not hidden):
            count_in(tag, thing)
    for setting, things in settings.items():
        for thing in set(things):
            count_in(setting, thing)
    return {
        tag: weight_of[tag] / total
        for tag, area in area_of.items()
        if area / total >= _least(tag, tag in settings)
    }


def _least(tag: str, setting: bool) -> float:
    if setting or tag in _SURFACES:
        return _LEAST_SURFACE
    return _LEAST_SPECK if tag in _SPECKS else _LEAST_THING


def ranked(importance: Mapping[str, float]) -> tuple[str, ...]:
    """The tags by falling importance (by name among equals), at most MOST_TAGS of them."""
    order = sorted(importance, key=lambda tag: (-importance[tag], tag))
    return tuple(order[:MOST_TAGS])


def misspelt(word: str, rng: np.random.Generator) -> str:
    """The word as a hasty user types it: two letters swapped, one left out, or one doubled."""
    if len(word) < 3:
        return word + word[-1]
    at = int(rng.integers(1, len(word) - 1))
    kind = int(rng.integers(3))
    if kind == 0 and word[at] != word[at + 1]:
        return word[:at] + word[at + 1] + word[at] + word[at + 2 :]
    if kind == 1:
        return word[:at] + word[at + 1 :]
    return word[: at + 1] + word[at:]


def noisy(tags: Sequence[str], rng: np.random.Generator) -> tuple[str, ...]:
    """Social tags: some of the tags, some misspelt, some wrong ones, and words of habit."""
    if rng.random() < 0.06:
        return ()
    words: list[str] = []
    for rank, tag in enumerate(tags):
        if rng.random() < 0.28 + 0.03 * rank:
            continue
        words.append(misspelt(tag, rng) if rng.random() < 0.09 else tag)
    for _ in range(int(rng.choice(3, p=(0.6, 0.3, 0.1)))):
        words.append(TAGS[int(rng.integers(len(TAGS)))])
    for _ in range(int(rng.choice(4, p=(0.4, 0.32, 0.2, 0.08)))):
        words.append(_HABITS[int(len(_HABITS) * rng.random() ** 2)])
    order = rng.permutation(len(words))
    return tuple(dict.fromkeys(words[int(k)] for k in order))
