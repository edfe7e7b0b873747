"""A painter's canvas that keeps, beside the colours, which thing each pixel belongs to."""

from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

from engine.sample.noise import FloatImage, Kind, patch

SUPERSAMPLING = 2
_SHIFT = 4
_SUBPIXEL = SUPERSAMPLING << _SHIFT
_LAST_ID = 255

Colour = tuple[float, float, float]
Points = Sequence[tuple[float, float]] | npt.NDArray[np.float64]
ByteImage = npt.NDArray[np.uint8]


def mix(first: Colour, second: Colour, share: float) -> Colour:
    """The colour that lies `share` (0..1) of the way from the first (RGB 0..255) to the second."""
    keep = 1.0 - share
    return (
        first[0] * keep + second[0] * share,
        first[1] * keep + second[1] * share,
        first[2] * keep + second[2] * share,
    )


def shade(colour: Colour, amount: float) -> Colour:
    """The colour made lighter (amount above 0, at most 1) or darker (below 0, at least -1)."""
    if amount >= 0:
        return mix(colour, (255.0, 252.0, 240.0), amount)
    return mix(colour, (18.0, 14.0, 38.0), -amount)


def smooth(points: Points, closed: bool = True, steps: int = 6) -> npt.NDArray[np.float64]:
    """A Catmull-Rom curve through (N, 2) points, as (N * steps, 2) points (about that if open)."""
    given = np.asarray(points, dtype=np.float64)
    if closed:
        padded = np.concatenate([given[-1:], given, given[:2]])
    else:
        padded = np.concatenate([given[:1], given, given[-1:]])
    t = np.arange(steps)[:, None] / steps
    before = -0.5 * t + t**2 - 0.5 * t**3
    start = 1.0 - 2.5 * t**2 + 1.5 * t**3
    end = 0.5 * t + 2.0 * t**2 - 1.5 * t**3
    after = -0.5 * t**2 + 0.5 * t**3
    curve = (
        padded[:-3, None] * before
        + padded[1:-2, None] * start
        + padded[2:-1, None] * end
        + padded[3:, None] * after
    ).reshape(-1, 2)
    return curve if closed else np.concatenate([curve, given[-1:]])


class Canvas:
    """Colours and thing ids drawn together at twice the size; coordinates are final pixels.

    `rgb` is (2H, 2W, 3) uint8, `ids` is (2H, 2W) uint8. Id 0 is nothing, and `tags[id]` is the
    tag of a thing ("" for clutter without a name). Painting over a thing takes its pixels away,
    so what is left in `ids` is what can be seen.
    """

    def __init__(self, width: int, height: int, rng: np.random.Generator) -> None:
        self.width, self.height, self.rng = width, height, rng
        size = (height * SUPERSAMPLING, width * SUPERSAMPLING)
        self.rgb: ByteImage = np.zeros((*size, 3), np.uint8)
        self.ids: ByteImage = np.zeros(size, np.uint8)
        self.tags: list[str] = [""]
        self.drawn: list[int] = [0]
        self.glowing: list[bool] = [False]
        self.light: tuple[float, float] = (-0.6, -0.8)
        self.haze: Colour = (200.0, 212.0, 225.0)
        self.fade = 0.0
        self.dark = False
        self.settings: dict[str, list[int]] = {}
        self._first = self._current = 0
        self._box = (0.0, 0.0, 0.0, 0.0)

    def begin(self, tag: str) -> None:
        """Start a thing: what is drawn up to `end` is its."""
        self._first = self._current = self._new_id(tag, glowing=False)
        self._box = (float(self.width), float(self.height), 0.0, 0.0)

    def _new_id(self, tag: str, glowing: bool) -> int:
        if len(self.tags) > _LAST_ID:
            raise ValueError(f"a picture holds at most {_LAST_ID} things")
        self.tags.append(tag)
        self.drawn.append(0)
        self.glowing.append(glowing)
        return len(self.tags) - 1

    def glow(self, on: bool) -> None:
        """Let what is drawn next shine by itself (a lit window), or stop that."""
        if not on:
            self._current = self._first
        elif self.glowing[-1]:
            self._current = len(self.tags) - 1
        else:
            self._current = self._new_id(self.tags[self._first], glowing=True)

    def claim(self, setting: str, first: int) -> None:
        """Say that the things from id `first` on make up a setting (trees a forest)."""
        self.settings.setdefault(setting, []).extend(range(first, len(self.tags)))

    def end(
        self,
        relief: float = 0.0,
        texture: Kind | None = None,
        amount: float = 0.0,
        *,
        ramp: float = 0.0,
        lying: bool = False,
    ) -> None:
        """Finish a thing: model it in the light (relief 0..1) and give it a texture.

        `ramp` lightens its upper edge and darkens the lower one by that share; the texture of
        a `lying` thing shrinks toward the horizon.
        """
        left, top, right, bottom = self._region(self._box)
        ids = self.ids[top:bottom, left:right]
        if ids.size == 0:
            return
        mask = np.asarray(cv2.inRange(ids, np.array([self._first]), np.array([_LAST_ID])), np.uint8)
        self.drawn[self._first] = cv2.countNonZero(mask)
        for part in range(self._first + 1, len(self.tags)):
            self.drawn[part] = int(np.count_nonzero(ids == part))
            self.drawn[self._first] -= self.drawn[part]
        factor = np.ones(ids.shape, np.float32)
        if relief > 0:
            factor += self._relief(mask, relief)
        if texture is not None:
            noise = patch(texture, ids.shape[0], ids.shape[1], self.rng)
            if lying:
                rows = np.sqrt(np.linspace(0.0, 1.0, len(noise))) * (len(noise) - 1)
                noise = noise[rows.astype(np.intp)]
            factor += amount * noise
        if ramp:
            factor += np.linspace(ramp, -ramp, len(factor), dtype=np.float32)[:, None]
        if relief > 0 or texture is not None or ramp:
            area = self.rgb[top:bottom, left:right]
            lit = cv2.multiply(area, cv2.merge([factor] * 3), dtype=cv2.CV_8U)
            cv2.copyTo(lit, mask, area)

    def _relief(self, mask: npt.NDArray[np.integer], strength: float) -> FloatImage:
        """Light on the mask as if it were a pillow: the distance to its edge is its height."""
        high, wide = mask.shape
        # Half the resolution is a quarter of the work, and the light is smooth anyway.
        depth = cv2.distanceTransform(np.ascontiguousarray(mask[::2, ::2]), cv2.DIST_L2, 3)
        reach = min(max(2.0, 0.55 * float(depth.max())), 40.0)
        height = np.minimum(depth, reach, dtype=np.float32)
        height = cv2.blur(height, (2 * int(reach / 3) + 1,) * 2)
        across = cv2.Sobel(height, cv2.CV_32F, 1, 0, scale=0.125)
        down = cv2.Sobel(height, cv2.CV_32F, 0, 1, scale=0.125)
        # The height falls away from the light where its slope points against it.
        lit = -(across * self.light[0] + down * self.light[1])
        return np.asarray(cv2.resize(lit * strength, (wide, high)), np.float32)

    def _region(self, box: tuple[float, float, float, float]) -> tuple[int, int, int, int]:
        left, top, right, bottom = box
        return (
            max(0, int(left * SUPERSAMPLING) - 2),
            max(0, int(top * SUPERSAMPLING) - 2),
            min(self.rgb.shape[1], int(right * SUPERSAMPLING) + 3),
            min(self.rgb.shape[0], int(bottom * SUPERSAMPLING) + 3),
        )

    def _grow(self, left: float, top: float, right: float, bottom: float) -> None:
        box = self._box
        self._box = (
            min(box[0], left),
            min(box[1], top),
            max(box[2], right),
            max(box[3], bottom),
        )

    def tone(self, colour: Colour) -> Colour:
        """The colour as the air between leaves it: mixed with the haze by `fade`."""
        return mix(colour, self.haze, self.fade) if self.fade > 0 else colour

    def polygon(self, points: Points, colour: Colour) -> None:
        """Fill the polygon of (N, 2) points in pixels."""
        given = np.asarray(points, dtype=np.float64)
        low, high = given.min(axis=0), given.max(axis=0)
        self._grow(float(low[0]), float(low[1]), float(high[0]), float(high[1]))
        fixed = [np.rint(given * _SUBPIXEL).astype(np.int32)]
        cv2.fillPoly(self.rgb, fixed, self.tone(colour), cv2.LINE_AA, _SHIFT)
        cv2.fillPoly(self.ids, fixed, (self._current,), cv2.LINE_8, _SHIFT)

    def ellipse(
        self, x: float, y: float, rx: float, ry: float, colour: Colour, angle: float = 0.0
    ) -> None:
        """Fill an ellipse; pixels, and degrees clockwise."""
        reach = max(rx, ry)
        self._grow(x - reach, y - reach, x + reach, y + reach)
        centre = (round(x * _SUBPIXEL), round(y * _SUBPIXEL))
        axes = (max(1, round(rx * _SUBPIXEL)), max(1, round(ry * _SUBPIXEL)))
        tone = self.tone(colour)
        cv2.ellipse(self.rgb, centre, axes, angle, 0, 360, tone, -1, cv2.LINE_AA, _SHIFT)
        own = (self._current,)
        cv2.ellipse(self.ids, centre, axes, angle, 0, 360, own, -1, cv2.LINE_8, _SHIFT)

    def line(
        self,
        points: Points,
        width: float,
        colour: Colour,
        *,
        own: bool = True,
        closed: bool = False,
    ) -> None:
        """Draw a line through (N, 2) points; with `own` False it marks no pixel as the thing's."""
        given = np.asarray(points, dtype=np.float64)
        fixed = [np.rint(given * _SUBPIXEL).astype(np.int32)]
        thick = max(1, round(width * SUPERSAMPLING))
        tone = self.tone(colour)
        cv2.polylines(self.rgb, fixed, closed, tone, thick, cv2.LINE_AA, _SHIFT)
        if own:
            low, high = given.min(axis=0), given.max(axis=0)
            self._grow(float(low[0]), float(low[1]), float(high[0]), float(high[1]))
            cv2.polylines(self.ids, fixed, closed, (self._current,), thick, cv2.LINE_8, _SHIFT)

    def strokes(self, segments: npt.NDArray[np.float64], width: float, colour: Colour) -> None:
        """Draw (N, M, 2) short lines in one go, as marks on whatever lies beneath."""
        fixed = np.rint(segments * _SUBPIXEL).astype(np.int32)
        thick = max(1, round(width * SUPERSAMPLING))
        cv2.polylines(self.rgb, list(fixed), False, self.tone(colour), thick, cv2.LINE_AA, _SHIFT)

    def veil(
        self, mask: FloatImage, colour: Colour, left: int = 0, top: int = 0, *, own: float = 2.0
    ) -> None:
        """Blend a colour over the canvas by a (h, w) mask 0..1 in canvas cells at (left, top).

        Cells whose mask is above `own` become the thing's; by default none does.
        """
        high, wide = self.ids.shape
        y0, x0 = max(0, top), max(0, left)
        y1, x1 = min(high, top + mask.shape[0]), min(wide, left + mask.shape[1])
        if y1 <= y0 or x1 <= x0:
            return
        share = mask[y0 - top : y1 - top, x0 - left : x1 - left]
        area = self.rgb[y0:y1, x0:x1]
        paint = np.empty_like(area)
        paint[:] = np.asarray(self.tone(colour), np.float64).astype(np.uint8)
        area[:] = cv2.blendLinear(paint, area, share, 1.0 - share)
        if own <= 1.0:
            self.ids[y0:y1, x0:x1][share > own] = self._current
            self._grow(x0 / 2, y0 / 2, x1 / 2, y1 / 2)

    def shadow(self, x: float, y: float, rx: float, ry: float, strength: float) -> None:
        """Darken the ground softly in an ellipse; no thing's pixels change hands."""
        wide, high = int(rx * SUPERSAMPLING) + 3, int(ry * SUPERSAMPLING) + 3
        mask = np.zeros((2 * high + 1, 2 * wide + 1), np.float32)
        axes = (int(rx * SUPERSAMPLING), int(ry * SUPERSAMPLING))
        cv2.ellipse(mask, (wide, high), axes, 0, 0, 360, (strength,), -1)
        mask = cv2.blur(mask, (5, 3)).astype(np.float32)
        left, top = int(x * SUPERSAMPLING) - wide, int(y * SUPERSAMPLING) - high
        self.veil(mask, (24.0, 22.0, 44.0), left, top)
