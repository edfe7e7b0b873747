"""Settings of the town and its doors: street, skyline, park, harbour, and the air above."""

import numpy as np

from engine.sample import land
from engine.sample.canvas import shade
from engine.sample.sky import sky
from engine.sample.stage import Stage
from engine.sample.water import water


def street(stage: Stage) -> None:
    """A city street from the side: a wall of buildings, pavement, traffic."""
    sky(stage)
    canvas = stage.canvas
    first = len(canvas.tags)
    foot = stage.horizon + stage.high * 0.12
    for rank, (low, high) in enumerate(((0.5, 0.75), (0.36, 0.66))):
        canvas.fade = 0.45 if rank == 0 else 0.0
        x = -stage.some(0, 30)
        while x < stage.wide:
            size = stage.high * stage.some(low, high)
            if rank == 1 and stage.chance(0.16):
                x += stage.some(14, 50)
                continue
            stage.put("building", x + size * 0.27, foot, size, 1.0)
            x += size * stage.some(0.48, 0.62)
    canvas.fade = 0.0
    canvas.claim("city", first)
    canvas.begin("")
    pavement = stage.pen.vary((186, 180, 172))
    canvas.polygon(
        [(0, foot), (stage.wide, foot), (stage.wide, stage.high), (0, stage.high)], pavement
    )
    canvas.end(0.0, "grain", 0.03)
    top = foot + stage.high * stage.some(0.03, 0.08)
    low = min(stage.high, top + stage.high * stage.some(0.2, 0.3))
    first = len(canvas.tags)
    land.road(stage, top, low)
    canvas.claim("city", first)
    depth = (top - stage.horizon) / (stage.high - stage.horizon)
    end = (low - stage.horizon) / (stage.high - stage.horizon)
    _walkers(stage, (depth - 0.04, depth))
    for lane in (
        (depth + 0.1 * (end - depth), depth + 0.45 * (end - depth)),
        (depth + 0.6 * (end - depth), end),
    ):
        stage.cast("car", 0.6, (1, 2), lane)
        stage.cast("bus", 0.22, (1, 1), lane)
        stage.cast("truck", 0.2, (1, 1), lane)
        stage.cast("cyclist", 0.14, (1, 1), lane)
    stage.cast("broadleaf", 0.3, (1, 3), (depth - 0.03, depth), grow=0.6)
    stage.cast("lamp", 0.45, (1, 3), (depth - 0.02, depth))
    stage.cast("traffic light", 0.4, (1, 2), (depth - 0.02, depth), grow=1.1)
    if end < 0.93:
        _walkers(stage, (end + 0.02, 1.0))
        stage.cast("dog", 0.15, (1, 1), (end, 1.0), grow=1.2)
        stage.cast("bicycle", 0.22, (1, 2), (end, 1.0))
        stage.cast("bench", 0.14, (1, 1), (end, 1.0))
    stage.perform()


def _walkers(stage: Stage, depth: tuple[float, float]) -> None:
    stage.cast("person", 0.5, (1, 4), depth)


def skyline(stage: Stage) -> None:
    """A city across water, or from a park, at any hour."""
    sky(stage)
    canvas = stage.canvas
    first = len(canvas.tags)
    for rank, (low, high) in enumerate(((0.35, 0.8), (0.2, 0.55))):
        canvas.fade = 0.4 - 0.3 * rank
        x = -stage.some(0, 20)
        while x < stage.wide:
            size = stage.horizon * stage.some(low, high)
            stage.put("building", x, stage.horizon + 2, size, 1.0)
            x += size * stage.some(0.35, 0.7)
    canvas.fade = 0.0
    canvas.claim("city", first)
    if stage.chance(0.7):
        water(stage, "river", stage.horizon, stage.high)
        if stage.chance(0.4):
            bridge(stage, stage.ground(stage.some(0.1, 0.3)))
        stage.cast("boat", 0.6, (1, 3), (0.25, 0.8), grow=0.8)
    else:
        land.grass(stage)
        stage.cast("broadleaf", 0.8, (1, 4), (0.15, 0.8), grow=0.8)
        stage.cast("person", 0.5, (1, 3), (0.3, 0.9))
        stage.cast("bench", 0.3, (1, 1), (0.4, 0.9))
    stage.fly("plane", 0.35, (1, 1), (0.07, 0.13))
    stage.perform()


def bridge(stage: Stage, foot: float) -> None:
    """A bridge across the whole picture, standing at `foot` px: arches, or hung from towers."""
    canvas = stage.canvas
    high = stage.high * stage.some(0.13, 0.2)
    deck = foot - high
    stone = stage.pen.vary(
        stage.pen.pick(((176.0, 160.0, 140.0), (150.0, 84.0, 66.0), (120.0, 130.0, 142.0)))
    )
    canvas.begin("bridge")
    if stage.chance(0.6):
        spans = int(stage.rng.integers(2, 5))
        wide = stage.wide / spans
        for k in range(-1, spans + 1):
            left, right = (k + 0.1) * wide, (k + 0.9) * wide
            arc = np.linspace(np.pi, 0.0, 16)
            arch = np.stack(
                [
                    (left + right) / 2 + np.cos(arc) * (right - left) / 2,
                    foot - np.sin(arc) * high * 0.8,
                ],
                axis=1,
            )
            outline = [
                (k * wide, foot + 4),
                (k * wide, deck),
                ((k + 1) * wide, deck),
                ((k + 1) * wide, foot + 4),
                (right, foot + 4),
            ]
            canvas.polygon(
                np.concatenate([np.array(outline), arch[::-1], [[left, foot + 4]]]), stone
            )
            canvas.line(arch, 1.2, shade(stone, -0.4))
    else:
        for x in (0.22, 0.78):
            for shift in (-3, 3):
                canvas.polygon(
                    [
                        (stage.wide * x + shift - 1.6, foot + 4),
                        (stage.wide * x + shift + 1.6, foot + 4),
                        (stage.wide * x + shift + 1.2, deck - high * 1.3),
                        (stage.wide * x + shift - 1.2, deck - high * 1.3),
                    ],
                    stone,
                )
        across = np.linspace(0.22, 0.78, 24)
        sag = deck - high * 1.3 + high * 1.2 * (1 - ((across - 0.5) / 0.28) ** 2)
        canvas.line(np.stack([across * stage.wide, sag], axis=1), 0.9, stone)
        for u, v in zip(across, sag, strict=True):
            canvas.line([(u * stage.wide, v), (u * stage.wide, deck)], 0.5, shade(stone, 0.1))
        for x, end in ((0.22, -0.1), (0.78, 1.1)):
            canvas.line([(x * stage.wide, deck - high * 1.3), (end * stage.wide, deck)], 0.9, stone)
    canvas.polygon(
        [(0, deck - 4), (stage.wide, deck - 4), (stage.wide, deck + 3), (0, deck + 3)],
        shade(stone, 0.12),
    )
    canvas.line([(0, deck - 4), (stage.wide, deck - 4)], 0.8, shade(stone, -0.35))
    canvas.end(0.05, "leaf", 0.05)
    rider = stage.pen.pick(("train", "car", "bus", "truck", ""))
    if rider:
        size = {"train": 0.08, "car": 0.05, "bus": 0.075, "truck": 0.075}[rider] * stage.high
        stage.put(rider, stage.wide * stage.some(0.25, 0.75), deck - 3, size)


def park(stage: Stage) -> None:
    """Lawn, trees, benches, play."""
    sky(stage)
    canvas = stage.canvas
    first = len(canvas.tags)
    for k in range(9):
        stage.put(
            "broadleaf",
            stage.wide * (k + stage.some(0, 0.9)) / 9,
            stage.horizon + 3,
            stage.high * stage.some(0.16, 0.3),
        )
    if stage.chance(0.5):
        canvas.claim("forest", first)
    land.grass(stage)
    if stage.chance(0.45):
        land.lane(stage, "road", stage.pen.vary((206, 186, 152)), 2.4)
    elif stage.chance(0.5):
        water(stage, "lake", stage.ground(0.12), stage.ground(0.42), shore=4)
        stage.cast("duck", 0.8, (1, 4), (0.24, 0.38), grow=2.4)
    stage.cast("broadleaf", 0.7, (1, 3), (0.3, 0.8), grow=0.8)
    stage.cast("bench", 0.5, (1, 2), (0.5, 0.92), grow=1.2)
    stage.cast("person", 0.65, (1, 3), (0.45, 0.93))
    stage.cast("sitter", 0.25, (1, 2), (0.55, 0.95))
    stage.cast("cyclist", 0.2, (1, 1), (0.5, 0.9))
    stage.cast("bicycle", 0.15, (1, 1), (0.55, 0.92))
    stage.cast("dog", 0.4, (1, 2), (0.55, 0.97), grow=1.3)
    stage.cast("lamp", 0.25, (1, 2), (0.4, 0.7), grow=0.8)
    stage.cast("songbird", 0.15, (1, 2), (0.7, 0.98), grow=1.8)
    stage.cast("flowers", 0.5, (1, 5), (0.6, 0.99))
    stage.fly("kite", 0.25, (1, 2), (0.14, 0.26))
    stage.perform()


def harbour(stage: Stage) -> None:
    """A quay with houses, boats moored before it."""
    sky(stage)
    canvas = stage.canvas
    if stage.chance(0.5):
        land.hills(stage, (118, 146, 100), rise=0.35)
    first = len(canvas.tags)
    x = -stage.some(0, 20)
    while x < stage.wide:
        size = stage.high * stage.some(0.16, 0.25)
        stage.put("house", x, stage.horizon, size)
        x += size * stage.some(1.15, 1.7)
    if stage.chance(0.3):
        stage.put(
            "lighthouse",
            stage.wide * stage.some(0.1, 0.9),
            stage.horizon + 2,
            stage.high * stage.some(0.35, 0.5),
        )
    quay = stage.horizon + stage.high * 0.05
    canvas.begin("")
    canvas.polygon(
        [(0, stage.horizon - 1), (stage.wide, stage.horizon - 1), (stage.wide, quay), (0, quay)],
        (150, 140, 130),
    )
    for k in range(14):
        at = stage.wide * k / 13
        canvas.line([(at, stage.horizon + 2), (at, quay)], 1.2, (110, 100, 94))
    canvas.end(0.1, "grain", 0.05)
    water(stage, "sea", quay, stage.high)
    start = len(canvas.tags)
    stage.cast("boat", 1.0, (2, 5), (0.22, 0.8), grow=0.9)
    stage.cast("ship", 0.25, (1, 1), (0.14, 0.22), grow=0.8)
    stage.fly("gull", 0.45, (1, 4), (0.08, 0.16))
    stage.perform()
    canvas.claim("harbour", start)
    canvas.settings["harbour"] += range(first, start - 1)


def aloft(stage: Stage) -> None:
    """Nothing but sky, and what flies in it."""
    sky(stage, stage.high)
    stage.horizon = stage.high
    if stage.chance(0.3):
        stage.horizon = stage.high * 0.86
        land.hills(stage, stage.pen.pick(land.GREENS), rise=0.12)
        land.grass(stage)
    name = stage.pen.pick(("balloon", "balloon", "plane", "plane", "gull", "kite", ""))
    if name == "balloon":
        stage.fly(name, 1.0, (1, 5), (0.22, 0.55), (0.2, 0.8))
    elif name:
        stage.fly(name, 1.0, (1, 3), (0.16, 0.34), (0.2, 0.75))
