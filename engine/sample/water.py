"""Water in a picture: its colour, the mirror image of what stands above it, waves, foam."""

import numpy as np

from engine.sample.canvas import SUPERSAMPLING, mix, shade
from engine.sample.noise import patch
from engine.sample.stage import Stage


def water(stage: Stage, tag: str, top: float, foot: float, shore: float = 0.0) -> None:
    """Water between two heights (px): mirror of what stands above, waves, the sun's path.

    `shore` bends the lower edge by that many px and lines it with foam.
    """
    canvas, mood = stage.canvas, stage.mood
    blue = stage.pen.vary(
        stage.pen.pick(((46.0, 120.0, 170.0), (54.0, 146.0, 164.0), (70.0, 110.0, 150.0))), 12
    )
    tone = mix(blue, mood.low, 0.45 if mood.name in ("sunset", "grey", "fog") else 0.22)
    mirrored = canvas.rgb[max(0, int((2 * top - foot) * SUPERSAMPLING)) : int(top * SUPERSAMPLING)][
        ::-1
    ].copy()
    x = np.linspace(0, stage.wide, 30)
    edge = foot + shore * np.sin(x * stage.some(0.015, 0.04) + stage.some(0, 7))
    lower = np.stack([x, edge], axis=1)[::-1]
    canvas.begin(tag)
    canvas.polygon(np.concatenate([[(0.0, top), (stage.wide, top)], lower]), tone)
    canvas.end(0.0, "water", 0.05, ramp=0.08, lying=True)
    start = int(top * SUPERSAMPLING)
    rows = min(len(mirrored), canvas.rgb.shape[0] - start)
    if rows > 4:
        ripple = (patch("water", rows, 1, stage.rng)[:, 0] * 2).astype(np.intp)
        image = mirrored[np.clip(np.arange(rows) + ripple, 0, rows - 1)]
        fade = np.linspace(0.5, 0.06, rows, dtype=np.float32)[:, None]
        mine = canvas.ids[start : start + rows] == len(canvas.tags) - 1
        share = np.where(mine, fade, np.float32(0.0))[..., None]
        area = canvas.rgb[start : start + rows]
        area[:] = (area * (1 - share) + image * share).astype(np.uint8)
    count = int(20 + (foot - top) * 0.7)
    depth = stage.rng.uniform(0.0, 1.0, count) ** 1.2
    y = top + (foot - top) * depth * 0.96
    left = stage.rng.uniform(-10, stage.wide, count)
    reach = 3 + 20 * depth * stage.rng.uniform(0.4, 1.0, count)
    lines = np.stack(
        [
            np.stack([left + reach * t, y - 1.2 * depth * np.sin(t * 6.3)], 1)
            for t in (0, 0.25, 0.5, 0.75, 1)
        ],
        axis=1,
    )
    canvas.strokes(lines[::2], 0.6, shade(mix(tone, mood.low, 0.35), 0.25))
    canvas.strokes(lines[1::2], 0.6, shade(tone, -0.2))
    if shore > 0:
        for lift, width in ((0.0, 2.2), (-5.0, 1.0)):
            canvas.line(np.stack([x, edge + lift], axis=1), width, (246, 250, 250), own=False)
