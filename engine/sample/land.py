"""The ground of a picture: mountains, hills, grass, fields, sand, snow and roads."""

import numpy as np

from engine.sample.canvas import Colour, shade
from engine.sample.stage import Stage

GREENS: tuple[Colour, ...] = ((112, 164, 72), (134, 174, 80), (90, 148, 70), (150, 168, 84))


SNOW: Colour = (236, 242, 250)


SAND: Colour = (232, 206, 158)


DUNE: Colour = (226, 176, 112)


def mountains(
    stage: Stage, low: float = 0.3, high: float = 0.75, snowy: bool | None = None
) -> None:
    """A range on the horizon: peaks with a lit and a shaded face, some capped with snow."""
    canvas = stage.canvas
    foot = stage.horizon + 2
    stone = stage.pen.vary(
        stage.pen.pick(((128.0, 126.0, 140.0), (140.0, 116.0, 100.0), (104.0, 118.0, 128.0)))
    )
    capped = stage.chance(0.6) if snowy is None else snowy
    canvas.begin("mountain")
    count = int(stage.rng.integers(3, 7))
    for rank in range(count):
        near = rank / count
        canvas.fade = 0.55 * (1 - near)
        tall = stage.horizon * stage.some(low, high) * (1.05 - 0.45 * near)
        half = tall * stage.some(0.75, 1.35)
        x, top = stage.wide * stage.some(0.02, 0.98), foot - tall
        spine = [(x, top)]
        edges: list[list[tuple[float, float]]] = [[], []]
        for k in range(1, 6):
            down = top + tall * k / 5
            spine.append((x + half * stage.some(-0.16, 0.2), down))
            for side, edge in zip((-1, 1), edges, strict=True):
                bulge = 0 if k == 5 else stage.some(-0.07, 0.07)
                edge.append((x + side * half * (k / 5 + bulge), down))
        lit, dim = (0, 1) if canvas.light[0] < 0 else (1, 0)
        canvas.polygon([(x, top), *edges[lit], *spine[:0:-1]], shade(stone, 0.12))
        canvas.polygon([(x, top), *edges[dim], *spine[:0:-1]], shade(stone, -0.3))
        if capped:
            low_edge = top + tall * stage.some(0.28, 0.45)
            reach = half * (low_edge - top) / tall
            for side, white in ((-1, lit == 0), (1, lit == 1)):
                teeth = [
                    (
                        x + side * reach * (1 - k / 4),
                        low_edge + tall * (0.0 if k % 2 == 0 else 0.08),
                    )
                    for k in range(5)
                ]
                canvas.polygon([(x, top), *teeth], SNOW if white else shade(SNOW, -0.22))
    canvas.fade = 0.0
    canvas.end(0.12, "leaf", 0.045)


def hills(stage: Stage, colour: Colour, tag: str = "hill", rise: float = 0.3) -> None:
    """Two or three rolling lines of hills on the horizon, the farther the paler."""
    canvas = stage.canvas
    for rank in range(int(stage.rng.integers(2, 4))):
        canvas.begin(tag)
        canvas.fade = 0.5 - 0.2 * rank
        x = np.linspace(0, stage.wide, 40)
        top = np.zeros(40)
        for _ in range(3):
            top += stage.some(0.2, 0.6) * np.sin(x * stage.some(0.008, 0.03) + stage.some(0, 7))
        lift = stage.horizon * rise * (1 - 0.3 * rank) * (0.62 + 0.38 * top)
        ridge = np.stack([x, stage.horizon - np.maximum(lift, 1.0)], axis=1)
        foot = np.array([(stage.wide, stage.horizon + 4), (0.0, stage.horizon + 4)])
        canvas.polygon(np.concatenate([ridge, foot]), stage.pen.vary(colour, 12))
        canvas.end(0.0, "leaf", 0.05, ramp=0.1)
    canvas.fade = 0.0


def plain(stage: Stage, tag: str, colour: Colour, rough: float = 0.06, uneven: float = 1.5) -> None:
    """Flat ground from the horizon to the lower edge."""
    canvas = stage.canvas
    canvas.begin(tag)
    x = np.linspace(0, stage.wide, 24)
    edge = stage.horizon + uneven * np.sin(x * stage.some(0.02, 0.05) + stage.some(0, 7))
    foot = np.array([(stage.wide, stage.high), (0.0, stage.high)])
    canvas.polygon(np.concatenate([np.stack([x, edge], axis=1), foot]), colour)
    canvas.end(0.0, "cloud", rough, ramp=0.09, lying=True)


def grass(stage: Stage, colour: Colour | None = None) -> None:
    """A meadow: blades that grow toward the viewer, and at times dots of bloom."""
    green = stage.pen.vary(stage.pen.pick(GREENS)) if colour is None else colour
    plain(stage, "grass", green)
    blades(stage, green, 130)
    if stage.chance(0.3):
        bloom = stage.pen.pick(((250.0, 240.0, 230.0), (250.0, 214.0, 70.0), (226.0, 100.0, 110.0)))
        for _ in range(26):
            y = stage.ground(stage.some(0.12, 1.0))
            size = 0.07 * stage.scale(y)
            stage.canvas.line(
                [(stage.some(0, stage.wide), y)] * 2, max(0.6, min(2.2, size)), bloom, own=False
            )


def blades(stage: Stage, colour: Colour, count: int) -> None:
    """Tufts of grass strokes over the ground, larger when near."""
    depth = stage.rng.uniform(0.03, 1.0, count)
    y = stage.horizon + (stage.high - stage.horizon) * depth
    x = stage.rng.uniform(0, stage.wide, count)
    tall = 1.0 + 6.0 * depth
    lean = stage.rng.uniform(-0.5, 0.5, count) * tall
    segments = np.stack([np.stack([x, y], 1), np.stack([x + lean, y - tall], 1)], axis=1)
    third = count // 3
    for part, tint in enumerate((-0.25, 0.18, -0.1)):
        stage.canvas.strokes(segments[part * third : (part + 1) * third], 0.5, shade(colour, tint))


def field(stage: Stage) -> None:
    """Farmland: rows of a crop that run to a point on the horizon."""
    canvas = stage.canvas
    crop = stage.pen.vary(
        stage.pen.pick(
            (
                (222.0, 186.0, 84.0),
                (120.0, 160.0, 66.0),
                (150.0, 112.0, 172.0),
                (164.0, 122.0, 84.0),
            )
        )
    )
    plain(stage, "field", crop)
    first = len(canvas.tags) - 1
    point = stage.wide * stage.some(-0.2, 1.2)
    canvas.begin("field")
    step = stage.wide * stage.some(0.13, 0.24)
    for k in range(-14, 24):
        left = k * step
        canvas.polygon(
            [(point, stage.horizon + 2), (left, stage.high), (left + step * 0.42, stage.high)],
            shade(crop, -0.2),
        )
    canvas.end(0.0, "leaf", 0.09, ramp=0.05, lying=True)
    canvas.claim("field", first)
    blades(stage, crop, 60)


def sand(stage: Stage, tag: str = "beach", colour: Colour = SAND) -> None:
    """Sand with ripples of wind."""
    tone = stage.pen.vary(colour, 10)
    plain(stage, tag, tone, rough=0.035)
    count = 36
    depth = stage.rng.uniform(0.1, 1.0, count)
    y = stage.horizon + (stage.high - stage.horizon) * depth
    x = stage.rng.uniform(-10, stage.wide, count)
    reach = 6 + 26 * depth
    points = [
        np.stack([x + reach * t, y + np.sin(t * 3.1) * 2.2 * depth], 1)
        for t in (0.0, 0.3, 0.6, 1.0)
    ]
    stage.canvas.strokes(np.stack(points, axis=1), 0.5, shade(tone, -0.12))


def dunes(stage: Stage) -> None:
    """A sea of sand: crests with a lit and a shaded flank."""
    canvas = stage.canvas
    sand(stage, "desert", DUNE)
    for rank in range(int(stage.rng.integers(2, 5))):
        depth = -0.12 + 0.17 * rank
        base = stage.ground(depth + 0.3)
        x, top = stage.wide * stage.some(0.0, 1.0), stage.ground(depth)
        half = stage.wide * stage.some(0.35, 0.75)
        tone = stage.pen.vary(DUNE, 12)
        canvas.begin("desert")
        canvas.fade = max(0.0, 0.35 - 0.13 * rank)
        outline = [
            (x - half, base),
            (x - half * 0.45, (base + top * 2) / 3),
            (x, top),
            (x + half * 0.5, (base * 1.3 + top) / 2.3),
            (x + half, base),
        ]
        stage.pen.blob([(u, -v) for u, v in outline], tone)
        canvas.polygon(
            [
                (x, top + 1),
                (x + half * 0.12, (top + base) / 2),
                (x - half * 0.1, base),
                (x + half * 0.85, base),
                (x + half * 0.48, (base * 1.3 + top) / 2.3 + 1),
            ],
            shade(tone, -0.22),
        )
        canvas.end(0.08, "water", 0.02)
    canvas.fade = 0.0


def road(stage: Stage, top: float, foot: float) -> None:
    """A street from the side: asphalt between two heights (px), kerbs and a broken line."""
    canvas = stage.canvas
    grey = stage.pen.vary((98.0, 98.0, 104.0), 10)
    canvas.begin("road")
    canvas.polygon([(0, top), (stage.wide, top), (stage.wide, foot), (0, foot)], grey)
    canvas.line([(0, top), (stage.wide, top)], 1.5, (190, 188, 184))
    middle = (top + foot) / 2
    shift = stage.some(0, 30)
    for k in range(-1, 9):
        left = k * 34 + shift
        canvas.polygon(
            [
                (left, middle - 1),
                (left + 17, middle - 1),
                (left + 16, middle + 1.2),
                (left - 1, middle + 1.2),
            ],
            (236, 232, 216),
        )
    if stage.chance(0.25):
        left = stage.wide * stage.some(0.1, 0.8)
        for k in range(6):
            y = top + (foot - top) * (k + 0.25) / 6
            canvas.polygon(
                [
                    (left, y),
                    (left + 26, y),
                    (left + 25, y + (foot - top) / 12),
                    (left - 1, y + (foot - top) / 12),
                ],
                (236, 234, 228),
            )
    canvas.end(0.0, "grain", 0.05)


def lane(stage: Stage, tag: str, colour: Colour, wide: float = 3.0, line: bool = False) -> None:
    """A road, path or river that winds from the lower edge to the horizon, `wide` m across."""
    canvas = stage.canvas
    start, goal = stage.wide * stage.some(0.2, 0.8), stage.wide * stage.some(0.25, 0.75)
    bend = stage.wide * stage.some(-0.16, 0.16)
    depth = np.linspace(0.0, 1.0, 26) ** 1.7
    y = stage.horizon + 1 + (stage.high - stage.horizon) * depth
    middle = goal + (start - goal) * depth + bend * np.sin(depth * 5.0) * (0.3 + depth)
    half = wide / 2 * (y - stage.horizon) / stage.camera
    canvas.begin(tag)
    left, right = np.stack([middle - half, y], 1), np.stack([middle + half, y], 1)
    canvas.polygon(np.concatenate([left, right[::-1]]), colour)
    canvas.line(left, 0.8, shade(colour, -0.25), own=False)
    canvas.line(right, 0.8, shade(colour, -0.25), own=False)
    if line:
        for k in range(6, 25, 3):
            canvas.line(
                np.stack([middle, y], 1)[k : k + 2],
                max(0.6, 0.05 * float(half[k])),
                (240, 234, 210),
                own=False,
            )
    canvas.end(0.0, "water" if tag == "river" else "grain", 0.05)
