"""The sky of a picture: its colours, the sun, the moon, stars, clouds and the rainbow."""

import math

import cv2
import numpy as np

from engine.sample.canvas import SUPERSAMPLING, Colour, mix
from engine.sample.noise import FloatImage, patch
from engine.sample.stage import Stage


def sky(stage: Stage, depth: float | None = None) -> None:
    """Fill the canvas with the mood's sky down to `depth` px (the horizon), and what is in it."""
    canvas, mood = stage.canvas, stage.mood
    foot = stage.horizon if depth is None else depth
    canvas.begin("sky")
    first = len(canvas.tags) - 1
    canvas.polygon([(0, 0), (stage.wide, 0), (stage.wide, stage.high), (0, stage.high)], mood.low)
    rows = np.clip(np.arange(canvas.rgb.shape[0]) / max(1.0, foot * SUPERSAMPLING), 0.0, 1.0)
    stops = np.array([mood.zenith, mood.middle, mood.low])
    ramp = np.stack([np.interp(rows, (0.0, 0.55, 1.0), stops[:, k]) for k in range(3)], axis=1)
    canvas.rgb[:] = cv2.repeat(ramp[:, None, :].astype(np.uint8), 1, canvas.rgb.shape[1])
    if mood.name == "night":
        _stars(stage, foot)
        if stage.chance(0.7):
            _moon(stage, foot)
    elif mood.name == "sunset" or (mood.name == "day" and stage.chance(0.38)):
        _sun(stage, foot)
    if mood.name == "grey":
        _overcast(stage, foot, 0.75)
    elif mood.name != "fog":
        if stage.chance(0.25):
            _overcast(stage, foot, 0.0)
        for _ in range(int(stage.rng.choice((0, 0, 1, 2, 3, 4)))):
            _cumulus(stage, foot)
    if mood.name in ("day", "grey") and stage.chance(0.035):
        _rainbow(stage, foot)
    if mood.name in ("night", "sunset", "fog"):
        canvas.claim(mood.name, first)


def _halo(stage: Stage, x: float, y: float, reach: float, colour: Colour, strength: float) -> None:
    half = int(reach * SUPERSAMPLING)
    axis = np.linspace(-1.0, 1.0, 2 * half + 1, dtype=np.float32)
    far = np.sqrt(axis[:, None] ** 2 + axis[None, :] ** 2)
    mask = (strength * np.clip(1.0 - far, 0.0, 1.0) ** 2).astype(np.float32)
    left, top = int(x * SUPERSAMPLING) - half, int(y * SUPERSAMPLING) - half
    stage.canvas.veil(mask, colour, left, top)


def _sun(stage: Stage, foot: float) -> None:
    setting = stage.mood.name == "sunset"
    x = stage.wide * stage.some(0.12, 0.88)
    y = foot * (stage.some(0.55, 0.98) if setting else stage.some(0.15, 0.5))
    radius = stage.some(10, 22) if setting else stage.some(9, 16)
    colour: Colour = (255, 190, 90) if setting else (255, 250, 205)
    stage.canvas.light = (0.7 if x > stage.wide / 2 else -0.7, -0.75)
    _halo(stage, x, y, radius * 5.0, colour, 0.95)
    stage.canvas.begin("sun")
    stage.canvas.ellipse(x, y, radius, radius, mix(colour, (255, 255, 235), 0.35))
    stage.canvas.glow(True)
    stage.canvas.ellipse(x, y, radius * 0.82, radius * 0.82, mix(colour, (255, 255, 240), 0.65))
    stage.canvas.end()


def _moon(stage: Stage, foot: float) -> None:
    canvas = stage.canvas
    x, y = stage.wide * stage.some(0.15, 0.85), foot * stage.some(0.2, 0.6)
    radius = stage.some(9, 18)
    canvas.light = (0.6 if x > stage.wide / 2 else -0.6, -0.8)
    _halo(stage, x, y, radius * 4, (190, 200, 226), 0.5)
    canvas.begin("moon")
    canvas.glow(True)
    face: Colour = (246, 240, 212)
    if stage.chance(0.45):
        turn, side = [], stage.pen.pick((-1.0, 1.0))
        for k in range(21):
            angle = math.pi * (k / 20 - 0.5)
            turn.append((x + side * radius * math.cos(angle), y + radius * math.sin(angle)))
        for k in range(21):
            angle = math.pi * (0.5 - k / 20)
            turn.append((x + side * radius * 0.5 * math.cos(angle), y + radius * math.sin(angle)))
        canvas.polygon(turn, face)
    else:
        canvas.ellipse(x, y, radius, radius, face)
        for du, dv, r in (
            (-0.3, -0.2, 0.24),
            (0.25, 0.1, 0.18),
            (-0.1, 0.42, 0.2),
            (0.36, -0.4, 0.1),
        ):
            canvas.ellipse(
                x + du * radius, y + dv * radius, r * radius, r * radius, (222, 214, 186)
            )
    canvas.end()


def _stars(stage: Stage, foot: float) -> None:
    canvas = stage.canvas
    if stage.chance(0.3):
        return
    canvas.begin("star")
    canvas.glow(True)
    for _ in range(int(stage.rng.integers(25, 80))):
        x, y = stage.some(0, stage.wide), stage.some(0, foot * 0.92)
        radius = stage.some(0.4, 1.1)
        if stage.chance(0.14):
            reach = radius * 2.6
            canvas.polygon(
                [
                    (
                        x + (reach if k % 2 == 0 else reach * 0.28) * math.cos(k * math.pi / 4),
                        y + (reach if k % 2 == 0 else reach * 0.28) * math.sin(k * math.pi / 4),
                    )
                    for k in range(8)
                ],
                (255, 250, 220),
            )
        else:
            canvas.ellipse(x, y, radius, radius, (240, 240, 250))
    canvas.end()


def _cloud_colours(stage: Stage) -> tuple[Colour, Colour]:
    if stage.mood.name == "sunset":
        return (255, 214, 170), (196, 116, 130)
    if stage.mood.name == "night":
        return (92, 100, 136), (46, 54, 88)
    return (254, 254, 255), (188, 200, 216)


def _cumulus(stage: Stage, foot: float) -> None:
    """A heap cloud with a flat base: a dark veil, and a lit one shifted up."""
    canvas = stage.canvas
    wide = stage.some(0.16, 0.5) * stage.wide
    high = wide * stage.some(0.28, 0.48)
    x, y = stage.some(0.05, 0.95) * stage.wide, stage.some(0.12, 0.8) * foot
    w, h = int(wide * SUPERSAMPLING), int(high * SUPERSAMPLING)
    mask = np.zeros((h, w), np.uint8)
    for _ in range(11):
        u = stage.some(0.14, 0.86)
        reach = (0.13 + 0.3 * math.sin(math.pi * u) * stage.some(0.5, 1.0)) * h
        cv2.circle(mask, (int(u * w), int(h * 0.86 - reach * 0.9)), int(reach), (255,), -1)
    cv2.rectangle(mask, (int(w * 0.18), int(h * 0.7)), (int(w * 0.82), int(h * 0.86)), (255,), -1)
    soft = cv2.blur(mask, (7, 7)).astype(np.float32) / 255
    ragged = soft * (1 + 0.12 * patch("leaf", h, w, stage.rng))
    share = np.clip(ragged, 0, 1).astype(np.float32)
    light, dark = _cloud_colours(stage)
    left, top = int(x * SUPERSAMPLING) - w // 2, int(y * SUPERSAMPLING) - h // 2
    canvas.begin("cloud")
    canvas.veil(share * 0.96, dark, left, top, own=0.45)
    inner = cv2.blur(cv2.erode(mask, np.ones((3, 3), np.uint8)), (max(3, h // 9),) * 2)
    lift = np.linspace(1.0, 0.1, h, dtype=np.float32)[:, None] ** 0.8
    lit: FloatImage = (inner.astype(np.float32) / 255 * lift).astype(np.float32)
    canvas.veil(np.minimum(lit, share), light, left - int(0.01 * w), top)
    canvas.end()


def _overcast(stage: Stage, foot: float, bias: float) -> None:
    """A layer of cloud over the whole sky; with no bias only wisps of it."""
    canvas = stage.canvas
    h, w = max(2, int(foot * SUPERSAMPLING)), canvas.rgb.shape[1]
    noise = patch("cloud", h, w, stage.rng)
    light, dark = _cloud_colours(stage)
    canvas.begin("cloud")
    thick = np.clip(0.45 * noise + bias - 0.12, 0.0, 0.85)
    fade = np.linspace(1.0, 0.55, h, dtype=np.float32)[:, None]
    canvas.veil((thick * fade).astype(np.float32), light, own=0.42)
    if bias > 0:
        under = np.clip(-0.5 * noise - 0.1, 0.0, 0.6) * fade
        canvas.veil(under.astype(np.float32), mix(dark, (110, 120, 136), 0.5))
    canvas.end()


def _rainbow(stage: Stage, foot: float) -> None:
    canvas = stage.canvas
    h, w = max(2, int(foot * SUPERSAMPLING)), canvas.rgb.shape[1]
    x, reach = stage.some(0.25, 0.75) * w, stage.some(0.75, 0.98) * h
    across = np.arange(w, dtype=np.float32)[None, :] - np.float32(x)
    down = np.float32(h * 1.02) - np.arange(h, dtype=np.float32)[:, None]
    far = np.sqrt(across**2 + down**2)
    band = stage.some(0.016, 0.026) * w
    canvas.begin("rainbow")
    bands: tuple[Colour, ...] = (
        (230, 60, 60),
        (246, 150, 50),
        (250, 226, 80),
        (90, 190, 100),
        (70, 130, 220),
        (130, 80, 190),
    )
    for k, colour in enumerate(bands):
        share = np.clip(1.2 - np.abs(far - (reach - band * k)) / (band * 0.62), 0.0, 0.62)
        canvas.veil(share.astype(np.float32), colour, own=0.3)
    canvas.end()
