"""The twelve features of one 256 px picture on one core, and beside scikit-image's own.

    python benchmarks/features.py --rounds 15

scikit-image has the same as some of what the features are made of; each is timed on the same
picture in the same run, and where it has less (no bins, no moments), it is timed without them. GIST
is beside its Gabor filter at the 20 frequencies and orientations, on the picture as small as ours.
SIFT is beside its SIFT of the grey picture alone, where ours is of six channels, and by descriptor
made. The last line is JSON, its ratios by name: how many times faster.
"""

import json
import os
import statistics
import time
from collections.abc import Callable
from typing import Annotated

import cv2
import numpy as np
import typer
from skimage import color, data, feature, filters
from threadpoolctl import threadpool_limits

from engine.features.colour import lab_of
from engine.features.describer import PLAIN, Describer
from engine.features.gist import INNER, ORIENTATIONS
from engine.features.picture import grey_of, square
from engine.features.sift import channels, dense_points, descriptors, harris_points

Work = Callable[[], object]


def milliseconds(works: dict[str, Work], rounds: int) -> dict[str, float]:
    """Median CPU time of each, which with one thread is the time of an idle core."""
    spent: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(rounds + 1):
        for name, work in works.items():
            started = time.process_time()
            work()
            spent[name].append(1000 * (time.process_time() - started))
    # The first round fills caches.
    return {name: statistics.median(times[1:]) for name, times in spent.items()}


def main(
    rounds: Annotated[int, typer.Option(help="Times that ours is measured.")] = 15,
    slow_rounds: Annotated[int, typer.Option(help="Times that scikit-image's is.")] = 3,
) -> None:
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    cv2.setNumThreads(1)
    with threadpool_limits(1):
        measure(rounds, slow_rounds)


def measure(rounds: int, slow_rounds: int) -> None:
    picture = square(data.astronaut())
    grey = grey_of(picture)
    # Which pictures the words are learned from makes no difference to the time.
    describer = Describer.learn([np.stack([picture, square(data.chelsea())])])
    points = dense_points()

    def local() -> None:
        everywhere = np.concatenate([points, harris_points(grey)])
        descriptors(channels(picture), everywhere)

    ours: dict[str, Work] = {
        "all twelve": lambda: describer.raw(picture),
        **{name: lambda work=work: work(picture, grey) for name, work in PLAIN.items()},
        "descriptors": local,
        "harris": lambda: harris_points(grey),
        "lab": lambda: lab_of(picture),
    }
    mine = milliseconds(ours, rounds)
    theirs = milliseconds(scikit_image(picture, grey), slow_rounds)
    made = 6 * (len(points) + len(harris_points(grey)))
    sift = feature.SIFT()
    sift.detect_and_extract(grey)
    ratios = {name: theirs[name] / mine[name] for name in theirs if name != "descriptors"}
    ratios["sift, by descriptor"] = (theirs["descriptors"] / len(sift.descriptors)) / (
        mine["descriptors"] / made
    )
    ratios["sift, by picture"] = theirs["descriptors"] / mine["descriptors"]
    for name, time_spent in mine.items():
        print(f"{name:18} {time_spent:8.2f} ms  scikit-image {theirs.get(name, np.nan):8.2f} ms")
    result = {
        "milliseconds": {name: round(ms, 2) for name, ms in mine.items()},
        "scikit_image_milliseconds": {name: round(ms, 2) for name, ms in theirs.items()},
        "times_faster": {name: round(ratio, 1) for name, ratio in ratios.items()},
    }
    print(json.dumps(result))


def scikit_image(picture: np.ndarray, grey: np.ndarray) -> dict[str, Work]:
    """Its own of what our features are made of."""
    small = cv2.resize(picture, (INNER, INNER), interpolation=cv2.INTER_AREA) / 255

    def edges() -> None:
        feature.canny(grey)
        np.arctan2(filters.sobel_h(grey), filters.sobel_v(grey))

    def gabor() -> None:
        for scale, turns in enumerate(ORIENTATIONS):
            for turn in range(turns):
                for channel in range(3):
                    filters.gabor(small[..., channel], 0.3 / 1.85**scale, np.pi / turns * turn)

    return {
        "hsv-histogram": lambda: color.rgb2hsv(picture),
        "lab": lambda: color.rgb2lab(picture),
        "edge-directions": edges,
        "lbp": lambda: feature.local_binary_pattern(grey, 8, 1, "nri_uniform"),
        "gist": gabor,
        "descriptors": lambda: feature.SIFT().detect_and_extract(grey),
        "harris": lambda: feature.corner_peaks(feature.corner_harris(grey), min_distance=5),
    }


if __name__ == "__main__":
    typer.run(main)
