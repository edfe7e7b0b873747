"""Settings away from towns: the beach, the sea, lakes and mountains, desert, snow, savanna."""

from engine.sample import land
from engine.sample.sky import sky
from engine.sample.stage import Stage
from engine.sample.water import water


def beach(stage: Stage) -> None:
    """Sand before the sea."""
    sky(stage)
    if stage.chance(0.25):
        land.hills(stage, (120, 150, 104), rise=0.18)
    land.sand(stage)
    first = len(stage.canvas.tags) - 1
    foot = stage.ground(stage.some(0.32, 0.58))
    water(stage, "sea", stage.horizon, foot, shore=stage.some(2, 7))
    shallow = (foot - stage.horizon) / (stage.high - stage.horizon)
    stage.cast("boat", 0.45, (1, 3), (0.08, shallow * 0.75))
    stage.cast("ship", 0.12, (1, 1), (0.06, 0.1))
    stage.cast("rock", 0.25, (1, 4), (shallow, 0.9))
    stage.cast("palm", 0.4, (1, 3), (shallow + 0.05, 0.8))
    stage.cast("umbrella", 0.45, (1, 3), (shallow + 0.12, 0.92))
    stage.cast("person", 0.5, (1, 4), (shallow + 0.05, 0.92))
    stage.cast("sitter", 0.25, (1, 2), (shallow + 0.12, 0.92))
    stage.cast("dog", 0.16, (1, 1), (shallow + 0.2, 0.95), grow=1.3)
    stage.cast("horse", 0.05, (1, 2), (shallow + 0.1, 0.9))
    stage.fly("gull", 0.4, (1, 4))
    stage.fly("kite", 0.15, (1, 2), (0.14, 0.26))
    stage.perform()
    # The sand is id `first`: only what is left of it makes the beach.
    stage.canvas.settings["beach"] = [first]


def open_sea(stage: Stage) -> None:
    """Nothing but water, and what sails or stands on it."""
    sky(stage)
    if stage.chance(0.45):
        stage.canvas.begin("island")
        x, half = stage.wide * stage.some(0.15, 0.85), stage.wide * stage.some(0.2, 0.36)
        foot, tall = stage.horizon + 2, half * stage.some(0.3, 0.6)
        stage.canvas.fade = 0.2
        outline = [
            (x - half, -foot),
            (x - half * 0.5, tall * 0.6 - foot),
            (x, tall - foot),
            (x + half * 0.6, tall * 0.5 - foot),
            (x + half, -foot),
        ]
        stage.pen.blob(outline, stage.pen.vary((110, 146, 84)))
        stage.canvas.end(0.2, "leaf", 0.08)
        for _ in range(int(stage.rng.integers(0, 4))):
            stage.put(
                "palm",
                x + half * stage.some(-0.6, 0.6),
                foot - tall * 0.3,
                tall * stage.some(0.7, 1.1),
            )
        stage.canvas.fade = 0.0
    if stage.chance(0.35):
        x = stage.wide * stage.pen.pick((0.18, 0.82, 0.3, 0.72))
        tall = stage.high * stage.some(0.36, 0.6)
        stage.put("rock", x, stage.horizon + 4, tall * 0.2, 1.0)
        stage.put("lighthouse", x, stage.horizon - tall * 0.1, tall)
    water(stage, "sea", stage.horizon, stage.high)
    stage.cast("ship", 0.35, (1, 1), (0.1, 0.3), (0.2, 0.8))
    stage.cast("boat", 0.75, (1, 4), (0.1, 0.75))
    stage.cast("rock", 0.2, (1, 3), (0.3, 0.9), grow=1.6)
    stage.fly("gull", 0.5, (1, 5))
    stage.perform()


def lake(stage: Stage) -> None:
    """Mountains or woods behind a lake with a near shore of grass."""
    sky(stage)
    canvas = stage.canvas
    if stage.chance(0.72):
        land.mountains(stage)
    else:
        land.hills(stage, stage.pen.pick(land.GREENS), rise=0.4)
    first = len(canvas.tags)
    if stage.chance(0.6):
        for k in range(16):
            x = stage.wide * (k + stage.some(0, 0.8)) / 16
            canvas.fade = 0.3
            stage.put("conifer", x, stage.horizon + 2, stage.high * stage.some(0.1, 0.18))
        canvas.fade = 0.0
        canvas.claim("forest", first)
    land.grass(stage)
    foot = stage.ground(stage.some(0.5, 0.78))
    water(stage, "lake", stage.horizon, foot, shore=stage.some(3, 8))
    wet = (foot - stage.horizon) / (stage.high - stage.horizon)
    stage.cast("boat", 0.4, (1, 2), (0.15, wet * 0.85), grow=0.6)
    stage.cast("duck", 0.3, (1, 4), (wet * 0.5, wet * 0.9), grow=2.2)
    stage.cast("tent", 0.3, (1, 2), (wet + 0.06, 0.95))
    stage.cast("sitter", 0.25, (1, 2), (wet + 0.1, 0.95))
    stage.cast("tree", 0.4, (1, 2), (wet + 0.03, 0.95))
    stage.cast("rock", 0.35, (1, 3), (wet, 0.96))
    stage.cast("flowers", 0.3, (1, 3), (wet + 0.1, 0.99))
    stage.fly("gull", 0.15, (1, 3))
    stage.perform()


def highlands(stage: Stage) -> None:
    """A mountain valley: meadow, firs, a stream or a track, cattle, walkers."""
    sky(stage)
    land.mountains(stage, 0.5, 0.9)
    land.hills(stage, stage.pen.pick(land.GREENS), rise=0.16)
    land.grass(stage)
    kind = stage.some(0, 1)
    if kind < 0.35:
        land.lane(stage, "river", stage.pen.vary((86, 150, 186)), stage.some(3, 6))
    elif kind < 0.6:
        land.lane(stage, "road", stage.pen.vary((176, 156, 128)), 2.5)
    stage.cast("conifer", 0.7, (2, 8), (0.06, 0.6))
    stage.cast("rock", 0.4, (1, 4), (0.3, 0.95))
    stage.cast("cow", 0.25, (1, 3), (0.25, 0.9))
    stage.cast("sheep", 0.22, (2, 5), (0.25, 0.9))
    stage.cast("person", 0.35, (1, 2), (0.3, 0.9))
    stage.cast("tent", 0.16, (1, 2), (0.35, 0.9))
    stage.cast("house", 0.2, (1, 1), (0.1, 0.35))
    stage.cast("flowers", 0.3, (2, 4), (0.6, 0.99))
    stage.fly("gull", 0.15, (1, 2))
    stage.fly("balloon", 0.08, (1, 2), (0.16, 0.34))
    stage.perform()


def forest(stage: Stage) -> None:
    """Among trees: rank behind rank of them, the light from behind."""
    sky(stage)
    canvas = stage.canvas
    fir = stage.chance(0.5)
    first = len(canvas.tags)
    land.grass(stage, stage.pen.vary((86, 122, 60)))
    start = len(canvas.tags)
    kind = "conifer" if fir else "broadleaf"
    for rank in range(3):
        for k in range(9 - 2 * rank):
            canvas.fade = 0.5 - 0.22 * rank
            x = stage.wide * (k + stage.some(-0.2, 0.9)) / (9 - 2 * rank)
            y = stage.ground(0.05 + 0.17 * rank)
            stage.put(kind, x, y, stage.high * stage.some(0.42, 0.62) * (0.8 + 0.28 * rank))
    canvas.fade = 0.0
    canvas.claim("forest", start)
    canvas.claim("forest", first)
    if stage.chance(0.35):
        land.lane(stage, "road", stage.pen.vary((164, 138, 104)), 2.0)
    stage.cast("bush", 0.4, (1, 3), (0.5, 0.95))
    stage.cast("rock", 0.25, (1, 2), (0.5, 0.95))
    stage.cast("person", 0.25, (1, 2), (0.4, 0.9))
    stage.cast("dog", 0.15, (1, 1), (0.5, 0.95), grow=1.3)
    stage.cast("songbird", 0.18, (1, 2), (0.6, 0.98), grow=2.2)
    stage.cast("tent", 0.14, (1, 1), (0.4, 0.8))
    stage.cast("flowers", 0.3, (1, 3), (0.6, 0.99))
    stage.perform()


def desert(stage: Stage) -> None:
    """Dunes, a caravan, cacti or an oasis."""
    sky(stage)
    if stage.chance(0.25):
        land.mountains(stage, 0.2, 0.45, snowy=False)
    first = len(stage.canvas.tags)
    land.dunes(stage)
    stage.canvas.claim("desert", first)
    if stage.chance(0.55):
        stage.cast("camel", 1.0, (1, 4), (0.25, 0.85), grow=1.15)
        stage.cast("person", 0.45, (1, 2), (0.3, 0.85))
        stage.cast("palm", 0.3, (1, 3), (0.15, 0.6))
        stage.cast("tent", 0.25, (1, 2), (0.2, 0.7), grow=1.4)
    else:
        stage.cast("cactus", 0.9, (1, 5), (0.15, 0.9))
        stage.cast("car", 0.12, (1, 1), (0.3, 0.8))
    stage.cast("rock", 0.4, (1, 4), (0.2, 0.95))
    stage.perform()


def snow(stage: Stage) -> None:
    """Winter: snowy ground, firs, a cabin, a snowman."""
    sky(stage)
    if stage.chance(0.5):
        land.mountains(stage, 0.35, 0.8, snowy=True)
    else:
        land.hills(stage, (206, 218, 234), tag="snow", rise=0.3)
    land.plain(stage, "snow", land.SNOW, 0.025, 3.0)
    stage.cast("winter tree", 0.85, (2, 9), (0.04, 0.8))
    stage.cast("cabin", 0.4, (1, 1), (0.2, 0.55))
    stage.cast("snowman", 0.4, (1, 1), (0.4, 0.95), grow=1.2)
    stage.cast("person", 0.35, (1, 3), (0.3, 0.9))
    stage.cast("dog", 0.16, (1, 1), (0.5, 0.95), grow=1.3)
    stage.cast("fence", 0.15, (1, 2), (0.3, 0.7))
    stage.perform()
    _snowfall(stage, 0.45)


def polar(stage: Stage) -> None:
    """Penguins on the ice by a cold sea."""
    sky(stage)
    if stage.chance(0.5):
        land.mountains(stage, 0.2, 0.5, snowy=True)
    land.plain(stage, "snow", land.SNOW, 0.025, 3.0)
    if stage.chance(0.7):
        water(stage, "sea", stage.horizon, stage.ground(stage.some(0.25, 0.5)), shore=3)
    stage.cast("penguin", 1.0, (2, 8), (0.5, 0.97), grow=1.6)
    stage.perform()
    _snowfall(stage, 0.35)


def _snowfall(stage: Stage, share: float) -> None:
    if not stage.chance(share):
        return
    for _ in range(90):
        x, y, radius = stage.some(0, stage.wide), stage.some(0, stage.high), stage.some(0.5, 1.5)
        stage.canvas.line([(x, y), (x, y)], radius * 1.5, (248, 250, 255), own=False)


def savanna(stage: Stage) -> None:
    """Dry grass, flat-topped trees, great beasts."""
    sky(stage)
    if stage.chance(0.4):
        land.hills(stage, (170, 156, 112), rise=0.2)
    land.grass(stage, stage.pen.vary((206, 180, 96)))
    stage.cast("acacia", 0.8, (1, 4), (0.06, 0.5))
    beasts = stage.pen.pick(("elephant", "elephant", "giraffe"))
    stage.cast(beasts, 1.0, (1, 3), (0.3, 0.85), (0.15, 0.85))
    stage.cast("giraffe", 0.25, (1, 2), (0.2, 0.6))
    stage.cast("bush", 0.4, (1, 3), (0.3, 0.95))
    stage.cast("rock", 0.2, (1, 2), (0.3, 0.95))
    stage.fly("gull", 0.25, (1, 4))
    stage.perform()


def castle_hill(stage: Stage) -> None:
    """A castle on its height above woods and a river."""
    sky(stage)
    if stage.chance(0.35):
        land.mountains(stage, 0.3, 0.6)
    canvas = stage.canvas
    x, tall = stage.wide * stage.some(0.3, 0.7), stage.high * stage.some(0.32, 0.5)
    top = stage.horizon - stage.high * stage.some(0.02, 0.1)
    half = stage.wide * 0.6
    canvas.begin("hill")
    green = stage.pen.vary(stage.pen.pick(land.GREENS))
    outline = [
        (x - half, -stage.horizon - 3),
        (x - half * 0.55, -top - 4),
        (x, -top + 5),
        (x + half * 0.55, -top - 4),
        (x + half, -stage.horizon - 3),
    ]
    stage.pen.blob(outline, green)
    canvas.end(0.1, "leaf", 0.06)
    stage.put("castle", x, top + 2, tall)
    first = len(canvas.tags)
    for k in range(10):
        at = stage.wide * (k + stage.some(0, 0.9)) / 10
        stage.put(
            "broadleaf", at, stage.horizon + stage.some(1, 6), stage.high * stage.some(0.1, 0.17)
        )
    canvas.claim("forest", first)
    land.grass(stage, green)
    if stage.chance(0.5):
        water(stage, "river", stage.ground(0.18), stage.ground(stage.some(0.5, 0.7)), shore=3)
        stage.cast("boat", 0.4, (1, 2), (0.3, 0.5), grow=0.5)
    else:
        land.lane(stage, "road", stage.pen.vary((190, 166, 130)), 3.0)
    stage.cast("horse", 0.3, (1, 2), (0.65, 0.95))
    stage.cast("person", 0.3, (1, 2), (0.65, 0.95))
    stage.cast("flowers", 0.25, (1, 3), (0.75, 0.99))
    stage.fly("gull", 0.2, (1, 3))
    stage.perform()
