"""Settings close at hand: rooms, a laid table, and one creature or flower filling the view."""

import cv2
import numpy as np

from engine.sample import land
from engine.sample.canvas import SUPERSAMPLING, Colour, shade
from engine.sample.sky import sky
from engine.sample.stage import Stage

_PAPERS: tuple[Colour, ...] = (
    (232, 218, 196),
    (196, 214, 208),
    (226, 196, 180),
    (206, 210, 226),
    (240, 226, 170),
    (160, 180, 170),
    (214, 190, 206),
)
_FLOORS: tuple[Colour, ...] = ((170, 120, 78), (198, 158, 112), (128, 92, 66), (186, 180, 176))


def room(stage: Stage) -> None:
    """A room: papered wall, floor, furniture, small things, perhaps a cat."""
    canvas = stage.canvas
    _wall(stage, stage.horizon)
    canvas.begin("")
    floor = stage.pen.vary(stage.pen.pick(_FLOORS))
    canvas.polygon(
        [
            (0, stage.horizon),
            (stage.wide, stage.horizon),
            (stage.wide, stage.high),
            (0, stage.high),
        ],
        floor,
    )
    for k in range(-6, 18):
        canvas.line(
            [
                (stage.wide * (0.5 + (k - 6) * 0.06), stage.horizon),
                (stage.wide * (0.5 + (k - 6) * 0.17), stage.high),
            ],
            0.6,
            shade(floor, -0.22),
        )
    canvas.end(0.0, "water", 0.05, ramp=0.06)
    canvas.line([(0, stage.horizon), (stage.wide, stage.horizon)], 2.2, (244, 240, 232), own=False)
    if stage.chance(0.4):
        rug = stage.pen.vary(stage.pen.pick(_PAPERS[:5]))
        for share, tint in ((1.0, -0.35), (0.86, -0.05), (0.6, -0.2)):
            canvas.begin("")
            canvas.ellipse(
                stage.wide * 0.5,
                stage.ground(0.62),
                stage.wide * 0.42 * share,
                (stage.high - stage.horizon) * 0.3 * share,
                shade(rug, tint),
            )
            canvas.end(0.0, "grain", 0.05)
    if stage.chance(0.62):
        tall = stage.high * stage.some(0.28, 0.42)
        stage.put(
            "window", stage.wide * stage.some(0.2, 0.8), stage.horizon - stage.high * 0.1, tall, 1.0
        )
    elif stage.chance(0.7):
        stage.put(
            "picture frame",
            stage.wide * stage.some(0.2, 0.8),
            stage.horizon - stage.high * 0.2,
            stage.high * stage.some(0.16, 0.26),
        )
    stage.cast("sofa", 0.5, (1, 1), (0.2, 0.45), (0.3, 0.7), grow=1.1)
    stage.cast("standing lamp", 0.4, (1, 1), (0.12, 0.3))
    stage.cast("chair", 0.55, (1, 2), (0.3, 0.75))
    stage.cast("vase", 0.18, (1, 1), (0.3, 0.85), grow=1.5)
    stage.perform()
    if stage.chance(0.6):
        _laid_table(
            stage,
            stage.wide * stage.some(0.35, 0.65),
            stage.ground(stage.some(0.6, 0.85)),
            stage.high * stage.some(0.24, 0.33),
        )
    if stage.chance(0.35):
        stage.put(
            "hanging lamp",
            stage.wide * stage.some(0.35, 0.65),
            stage.high * 0.24,
            stage.high * 0.26,
        )
    stage.cast("cat", 0.38, (1, 1), (0.6, 0.97), grow=1.25)
    stage.cast("dog", 0.24, (1, 1), (0.6, 0.97))
    stage.cast("person", 0.24, (1, 2), (0.35, 0.8))
    stage.cast("book", 0.2, (1, 2), (0.6, 0.97))
    stage.perform()


def _wall(stage: Stage, foot: float) -> None:
    canvas = stage.canvas
    paper = stage.pen.vary(stage.pen.pick(_PAPERS), 12)
    canvas.begin("")
    canvas.polygon([(0, 0), (stage.wide, 0), (stage.wide, foot), (0, foot)], paper)
    pattern = int(stage.rng.integers(4))
    step = stage.some(14, 26)
    for k in range(int(stage.wide / step) + 1):
        if pattern == 0:
            canvas.polygon(
                [
                    (k * step, 0),
                    (k * step + step / 2, 0),
                    (k * step + step / 2, foot),
                    (k * step, foot),
                ],
                shade(paper, -0.07),
            )
        elif pattern == 1:
            for row in range(int(foot / step) + 1):
                canvas.ellipse(
                    (k + 0.5 * (row % 2)) * step, row * step, 1.8, 1.8, shade(paper, -0.16)
                )
    if pattern == 2:
        canvas.polygon(
            [(0, foot * 0.66), (stage.wide, foot * 0.66), (stage.wide, foot), (0, foot)],
            shade(paper, 0.4),
        )
    canvas.end(0.0, "grain", 0.018, ramp=0.06)


def _laid_table(stage: Stage, x: float, y: float, tall: float) -> None:
    stage.put("table", x, y, tall, 1.0)
    for k, u in enumerate((-0.6, 0.0, 0.6)):
        name = stage.pen.pick(("vase", "cup", "fruit", "book", "candle", "", ""))
        size = {"vase": 0.8, "cup": 0.34, "fruit": 0.45, "book": 0.36, "candle": 0.5}.get(name, 0.0)
        if name:
            stage.put(name, x + u * tall, y - tall * (0.94 + 0.02 * (k % 2)), size * tall)


def still_life(stage: Stage) -> None:
    """A table top seen close, with fruit, cups, flowers, candles, books."""
    canvas = stage.canvas
    _wall(stage, stage.high)
    if stage.chance(0.3):
        stage.put(
            "window", stage.wide * stage.some(0.25, 0.75), stage.high * 0.56, stage.high * 0.5, 1.0
        )
    edge = stage.high * stage.some(0.6, 0.72)
    canvas.begin("table")
    wood = stage.pen.vary(stage.pen.pick(_FLOORS), 16)
    canvas.polygon([(0, edge), (stage.wide, edge), (stage.wide, stage.high), (0, stage.high)], wood)
    checked = stage.chance(0.3)
    for k in range(9):
        if checked:
            canvas.polygon(
                [
                    (stage.wide * k / 8, edge),
                    (stage.wide * (k + 0.5) / 8, edge),
                    (stage.wide * ((k + 0.5) * 1.4 - 1.6) / 8, stage.high),
                    (stage.wide * (k * 1.4 - 1.6) / 8, stage.high),
                ],
                shade(wood, 0.4),
            )
    canvas.end(0.0, "water", 0.07, ramp=0.05)
    canvas.line([(0, edge), (stage.wide, edge)], 1.5, shade(wood, -0.35), own=False)
    names = ["vase", "cup", "fruit", "apple", "book", "candle"]
    size = {"vase": 0.62, "cup": 0.26, "fruit": 0.32, "apple": 0.24, "book": 0.24, "candle": 0.42}
    count = int(stage.rng.integers(1, 5))
    chosen = [names[int(k)] for k in stage.rng.permutation(len(names))[:count]]
    for rank, name in enumerate(chosen):
        x = stage.wide * ((rank + 0.5) / count + stage.some(-0.08, 0.08))
        y = edge + (stage.high - edge) * stage.some(0.25, 0.75)
        stage.put(
            name,
            x,
            y,
            stage.high * size[name] * stage.some(0.9, 1.2) * (1.3 if count == 1 else 1.0),
        )
    if stage.chance(0.12):
        stage.put("cat", stage.wide * stage.some(0.2, 0.8), stage.high * 0.95, stage.high * 0.55)


def _blur(stage: Stage, strength: int) -> None:
    """Put everything so far out of focus."""
    rgb = stage.canvas.rgb
    small = cv2.resize(rgb, None, fx=0.25, fy=0.25, interpolation=cv2.INTER_AREA)
    soft = cv2.GaussianBlur(small, (0, 0), strength * SUPERSAMPLING / 4)
    rgb[:] = cv2.resize(soft, (rgb.shape[1], rgb.shape[0]), interpolation=cv2.INTER_LINEAR)


def portrait(stage: Stage) -> None:
    """One animal large before a garden out of focus."""
    sky(stage)
    if stage.chance(0.6):
        land.hills(stage, stage.pen.pick(land.GREENS), rise=0.4)
    land.grass(stage)
    stage.cast("tree", 0.5, (1, 3), (0.1, 0.4))
    stage.cast("flowers", 0.4, (1, 3), (0.5, 0.9))
    stage.perform()
    _blur(stage, 5)
    land.blades(stage, (96, 150, 70), 60)
    stage.hero(
        ("dog", "cat", "horse", "cow", "sheep", "songbird", "person", "dog", "cat"), 0.55, 0.8
    )
    stage.perform()


def blossom(stage: Stage) -> None:
    """Flowers from near by, the green behind them out of focus; maybe a butterfly or a bird."""
    canvas = stage.canvas
    canvas.begin("grass" if stage.chance(0.35) else "")
    green = stage.pen.vary(stage.pen.pick(land.GREENS), 24)
    canvas.polygon(
        [(0, 0), (stage.wide, 0), (stage.wide, stage.high), (0, stage.high)], shade(green, -0.25)
    )
    for _ in range(26):
        tone = shade(stage.pen.vary(green, 26), stage.some(-0.3, 0.35))
        canvas.ellipse(
            stage.some(0, stage.wide),
            stage.some(0, stage.high),
            stage.some(8, 30),
            stage.some(8, 30),
            tone,
        )
    canvas.end()
    _blur(stage, 7)
    for _ in range(int(stage.rng.integers(1, 6))):
        tall = stage.high * stage.some(0.55, 0.95)
        stage.put("flower", stage.wide * stage.some(0.12, 0.88), stage.high * 1.02, tall)
    if stage.chance(0.5):
        tall = stage.high * stage.some(0.2, 0.4)
        stage.put(
            "butterfly",
            stage.wide * stage.some(0.2, 0.8),
            stage.high * stage.some(0.42, 0.75),
            tall,
        )


def under_water(stage: Stage) -> None:
    """Fish in the sea, seen from below: light from above, sand and rocks."""
    canvas = stage.canvas
    canvas.begin("sea")
    tone = stage.pen.vary((40, 130, 176), 16)
    canvas.polygon([(0, 0), (stage.wide, 0), (stage.wide, stage.high), (0, stage.high)], tone)
    canvas.end(0.0, "water", 0.03, ramp=0.4)
    for _ in range(5):
        x, lean = stage.wide * stage.some(0, 1), stage.some(-40, 40)
        mask = np.zeros(canvas.ids.shape, np.float32)
        shaft = np.array([(x, 0), (x + 14, 0), (x + lean + 30, stage.high), (x + lean, stage.high)])
        cv2.fillPoly(mask, [(shaft * SUPERSAMPLING).astype(np.int32)], (0.12,))
        canvas.veil(mask, (220, 246, 250))
    land.plain(stage, "", (200, 190, 150), 0.05, 5.0)
    stage.cast("rock", 0.7, (1, 4), (0.1, 0.9), grow=1.8)
    stage.perform()
    for _ in range(9):
        x, y = stage.wide * stage.some(0, 1), stage.ground(stage.some(0.1, 1.0))
        weed = shade((60, 140, 90), stage.some(-0.3, 0.2))
        tall = stage.some(14, 40)
        canvas.begin("")
        stage.pen.limb(
            [(x, -y), (x + 5, -y + tall * 0.4), (x - 4, -y + tall * 0.7), (x + 3, -y + tall)],
            5,
            1.5,
            weed,
        )
        canvas.end(0.2)
    stage.fly("fish", 1.0, (1, 7), (0.12, 0.3), (0.15, 1.0))
