"""Settings in the country: river, village, farm, railway."""

from engine.sample import land
from engine.sample.settings_town import bridge
from engine.sample.sky import sky
from engine.sample.stage import Stage
from engine.sample.water import water


def river(stage: Stage) -> None:
    """A river in the country with a bridge over it."""
    sky(stage)
    land.hills(stage, stage.pen.pick(land.GREENS), rise=0.3)
    land.grass(stage)
    water(stage, "river", stage.ground(0.16), stage.ground(stage.some(0.65, 0.82)), shore=4)
    stage.cast("tree", 0.8, (2, 5), (0.02, 0.14))
    stage.cast("house", 0.3, (1, 2), (0.06, 0.13))
    stage.perform()
    if stage.chance(0.72):
        bridge(stage, stage.ground(stage.some(0.3, 0.45)))
    stage.cast("boat", 0.4, (1, 2), (0.45, 0.6), grow=0.4)
    stage.cast("duck", 0.4, (1, 4), (0.5, 0.66), grow=2.0)
    stage.cast("bush", 0.3, (1, 2), (0.85, 0.98))
    stage.cast("sitter", 0.2, (1, 1), (0.85, 0.97))
    stage.perform()


def village(stage: Stage) -> None:
    """Houses about a church, gardens, a lane."""
    sky(stage)
    land.hills(stage, stage.pen.pick(land.GREENS), rise=stage.some(0.15, 0.4))
    land.grass(stage)
    if stage.chance(0.7):
        stone = stage.pen.pick(((112.0, 110.0, 112.0), (184.0, 162.0, 130.0)))
        land.lane(stage, "road", stone, stage.some(3, 4.5), line=stone[0] < 120)
    stage.cast("church", 0.45, (1, 1), (0.12, 0.3))
    stage.cast("house", 1.0, (1, 5), (0.12, 0.6))
    stage.cast("tree", 0.8, (1, 4), (0.06, 0.7))
    stage.cast("bush", 0.4, (1, 3), (0.4, 0.9))
    stage.cast("fence", 0.35, (1, 2), (0.5, 0.85))
    stage.cast("car", 0.28, (1, 1), (0.55, 0.85))
    stage.cast("person", 0.35, (1, 2), (0.5, 0.95))
    stage.cast("cat", 0.16, (1, 1), (0.75, 0.98), grow=1.7)
    stage.cast("dog", 0.16, (1, 1), (0.7, 0.97), grow=1.4)
    stage.cast("bicycle", 0.12, (1, 1), (0.6, 0.95))
    stage.cast("flowers", 0.4, (1, 4), (0.7, 0.99))
    stage.perform()


def farm(stage: Stage) -> None:
    """Fields, a barn or a windmill, beasts behind a fence."""
    sky(stage)
    if stage.chance(0.6):
        land.hills(stage, stage.pen.pick(land.GREENS), rise=0.25)
    if stage.chance(0.5):
        land.field(stage)
    else:
        land.grass(stage)
    stage.cast("barn", 0.45, (1, 1), (0.14, 0.4))
    stage.cast("windmill", 0.35, (1, 2), (0.1, 0.35))
    stage.cast("house", 0.2, (1, 1), (0.12, 0.3))
    stage.cast("tree", 0.5, (1, 3), (0.05, 0.4))
    stage.cast("tractor", 0.24, (1, 1), (0.4, 0.85), grow=1.2)
    beast = stage.pen.pick(("cow", "sheep", "horse", "cow", "sheep", ""))
    if beast:
        stage.cast(beast, 1.0, (1, 4), (0.35, 0.92), grow=1.15)
    stage.cast("fence", 0.4, (1, 2), (0.5, 0.97))
    stage.cast("person", 0.25, (1, 1), (0.4, 0.9))
    stage.cast("dog", 0.12, (1, 1), (0.6, 0.95), grow=1.3)
    stage.fly("gull", 0.15, (1, 4))
    stage.fly("balloon", 0.06, (1, 2), (0.16, 0.34))
    stage.perform()


def railway(stage: Stage) -> None:
    """A train through the country."""
    sky(stage)
    if stage.chance(0.4):
        land.mountains(stage)
    else:
        land.hills(stage, stage.pen.pick(land.GREENS))
    if stage.chance(0.4):
        land.field(stage)
    else:
        land.grass(stage)
    canvas = stage.canvas
    stage.cast("tree", 0.7, (1, 5), (0.05, 0.3))
    stage.cast("house", 0.3, (1, 2), (0.1, 0.3))
    stage.perform()
    y = stage.ground(stage.some(0.5, 0.72))
    canvas.begin("")
    canvas.polygon(
        [(0, y - 3), (stage.wide, y - 3), (stage.wide, y + 6), (0, y + 6)], (134, 122, 112)
    )
    for k in range(40):
        canvas.line([(k * 7, y + 4), (k * 7 + 2, y - 2)], 1.4, (92, 68, 54))
    canvas.end(0.0, "leaf", 0.12)
    canvas.line([(0, y + 2), (stage.wide, y + 2)], 1.2, (176, 178, 186), own=False)
    tall = stage.high * stage.some(0.13, 0.23)
    facing = stage.pen.pick((-1.0, 1.0))
    stage.put("train", stage.wide * (0.5 + facing * stage.some(0.05, 0.3)), y + 1, tall, facing)
    stage.cast("cow", 0.2, (1, 2), (0.85, 0.98), grow=0.8)
    stage.cast("bush", 0.4, (1, 3), (0.86, 0.99))
    stage.cast("flowers", 0.3, (1, 3), (0.88, 1.0))
    stage.cast("fence", 0.2, (1, 2), (0.86, 0.98))
    stage.perform()
