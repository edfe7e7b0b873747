"""One picture of the sample corpus from its index and seed: which setting, when, from where."""

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from engine.sample import settings_country, settings_near, settings_town, settings_wild
from engine.sample.canvas import SUPERSAMPLING, ByteImage, Canvas
from engine.sample.light import expose
from engine.sample.stage import MOODS, Stage
from engine.sample.tags import importances, noisy, ranked

LONGER_SIDE = 256
_SIZES: tuple[tuple[int, int], ...] = ((256, 192), (256, 192), (256, 170), (192, 256), (256, 256))
_MOODS = ("day", "sunset", "night", "grey", "fog", "evening")


@dataclass(frozen=True)
class Setting:
    """A kind of scene: its drawing, its share, where the horizon and the camera may be.

    `moods` are the chances of day, sunset, night, grey, fog and (indoors) evening.
    """

    draw: Callable[[Stage], None]
    share: float
    horizon: tuple[float, float]
    camera: tuple[float, float]
    moods: tuple[float, float, float, float, float, float] = (0.6, 0.14, 0.1, 0.12, 0.04, 0.0)


SETTINGS: tuple[Setting, ...] = (
    Setting(settings_wild.beach, 10, (0.32, 0.52), (2.2, 4.5), (0.66, 0.22, 0.06, 0.06, 0.0, 0.0)),
    Setting(
        settings_wild.open_sea, 7, (0.36, 0.6), (6.0, 12.0), (0.5, 0.26, 0.12, 0.08, 0.04, 0.0)
    ),
    Setting(settings_wild.lake, 7, (0.4, 0.55), (2.5, 4.5), (0.6, 0.16, 0.08, 0.1, 0.06, 0.0)),
    Setting(settings_wild.highlands, 7, (0.4, 0.58), (2.2, 4.5), (0.7, 0.1, 0.04, 0.1, 0.06, 0.0)),
    Setting(settings_wild.forest, 5, (0.45, 0.62), (1.8, 3.0), (0.6, 0.1, 0.06, 0.1, 0.14, 0.0)),
    Setting(settings_wild.desert, 6, (0.36, 0.52), (2.2, 4.0), (0.66, 0.2, 0.1, 0.0, 0.04, 0.0)),
    Setting(settings_wild.snow, 7, (0.36, 0.54), (2.0, 4.0), (0.5, 0.1, 0.2, 0.14, 0.06, 0.0)),
    Setting(settings_wild.polar, 3, (0.3, 0.46), (1.6, 2.6), (0.6, 0.16, 0.06, 0.18, 0.0, 0.0)),
    Setting(settings_wild.savanna, 4, (0.42, 0.56), (2.4, 4.2), (0.64, 0.3, 0.02, 0.04, 0.0, 0.0)),
    Setting(
        settings_wild.castle_hill, 3.5, (0.5, 0.62), (2.5, 4.5), (0.6, 0.16, 0.14, 0.06, 0.04, 0.0)
    ),
    Setting(settings_town.street, 10, (0.44, 0.54), (3.0, 4.2), (0.56, 0.1, 0.22, 0.1, 0.02, 0.0)),
    Setting(settings_town.skyline, 4, (0.5, 0.66), (5.0, 9.0), (0.4, 0.2, 0.3, 0.06, 0.04, 0.0)),
    Setting(
        settings_country.river, 4, (0.38, 0.52), (3.0, 5.0), (0.66, 0.12, 0.08, 0.1, 0.04, 0.0)
    ),
    Setting(
        settings_country.village, 8, (0.4, 0.55), (3.0, 5.5), (0.64, 0.1, 0.14, 0.1, 0.02, 0.0)
    ),
    Setting(settings_country.farm, 9, (0.36, 0.52), (2.4, 4.5), (0.7, 0.14, 0.02, 0.1, 0.04, 0.0)),
    Setting(settings_town.park, 7, (0.4, 0.52), (2.4, 4.0), (0.74, 0.08, 0.06, 0.1, 0.02, 0.0)),
    Setting(
        settings_town.harbour, 5, (0.36, 0.48), (6.0, 9.0), (0.56, 0.18, 0.14, 0.08, 0.04, 0.0)
    ),
    Setting(
        settings_country.railway, 2.5, (0.36, 0.5), (3.0, 5.0), (0.7, 0.12, 0.06, 0.1, 0.02, 0.0)
    ),
    Setting(settings_town.aloft, 6.5, (0.9, 1.0), (3.0, 4.0), (0.56, 0.24, 0.12, 0.08, 0.0, 0.0)),
    Setting(settings_near.room, 8, (0.5, 0.62), (0.6, 0.95), (0.7, 0.0, 0.0, 0.0, 0.0, 0.3)),
    Setting(settings_near.still_life, 6, (0.6, 0.7), (1.0, 1.5), (0.76, 0.0, 0.0, 0.0, 0.0, 0.24)),
    Setting(settings_near.portrait, 8, (0.36, 0.56), (1.6, 2.6), (0.8, 0.12, 0.0, 0.08, 0.0, 0.0)),
    Setting(settings_near.blossom, 6, (0.4, 0.6), (1.0, 1.5), (0.92, 0.08, 0.0, 0.0, 0.0, 0.0)),
    Setting(
        settings_near.under_water, 1.5, (0.72, 0.85), (2.0, 3.0), (1.0, 0.0, 0.0, 0.0, 0.0, 0.0)
    ),
)


@dataclass(frozen=True)
class SamplePicture:
    """One picture: its JPEG (longer side 256 px), its 1 to 8 tags, the most important first by
    visible area times centrality, and the noisy tags of imagined users."""

    image_id: str
    jpeg: bytes
    tags: tuple[str, ...]
    social_tags: tuple[str, ...]


@dataclass(frozen=True)
class Scene:
    """A picture before it is encoded.

    `image` is (H, W, 3) uint8 RGB; `ids` (H, W) uint8 says which thing each pixel shows, and
    `thing_tags` names the things; `importance` is visible area times centrality by tag.
    """

    image: ByteImage
    ids: npt.NDArray[np.uint8]
    thing_tags: tuple[str, ...]
    settings: dict[str, tuple[int, ...]]
    importance: dict[str, float]


def _pick(shares: tuple[float, ...], rng: np.random.Generator) -> int:
    edges = np.cumsum(shares)
    return int(np.searchsorted(edges, rng.random() * edges[-1], side="right"))


def compose(rng: np.random.Generator) -> Scene:
    """Draw a scene with that generator; redrawn in the rare case that nothing has a name."""
    while True:
        setting = SETTINGS[_pick(tuple(one.share for one in SETTINGS), rng)]
        moods = MOODS[_MOODS[_pick(setting.moods, rng)]]
        mood = moods[int(rng.integers(len(moods)))]
        width, height = _SIZES[int(rng.integers(len(_SIZES)))]
        canvas = Canvas(width, height, rng)
        horizon, camera = rng.uniform(*setting.horizon), rng.uniform(*setting.camera)
        setting.draw(Stage(canvas, mood, float(horizon), float(camera)))
        ids = np.ascontiguousarray(canvas.ids[::SUPERSAMPLING, ::SUPERSAMPLING])
        drawn = [cells / SUPERSAMPLING**2 for cells in canvas.drawn]
        importance = importances(ids, canvas.tags, drawn, canvas.settings)
        if importance:
            return Scene(
                image=expose(canvas, mood),
                ids=ids,
                thing_tags=tuple(canvas.tags),
                settings={name: tuple(things) for name, things in canvas.settings.items()},
                importance=importance,
            )


def draw_picture(index: int, seed: int) -> SamplePicture:
    """The picture of that index in the corpus of that seed; it depends on the two alone.

    Raises ValueError when the index or the seed is negative.
    """
    if index < 0 or seed < 0:
        raise ValueError(f"index and seed must not be negative, got {index} and {seed}")
    rng = np.random.default_rng((seed, index))
    scene = compose(rng)
    tags = ranked(scene.importance)
    quality = int(rng.integers(82, 95))
    _, encoded = cv2.imencode(
        ".jpg", cv2.cvtColor(scene.image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality]
    )
    return SamplePicture(f"scene_{index:06d}", encoded.tobytes(), tags, noisy(tags, rng))
