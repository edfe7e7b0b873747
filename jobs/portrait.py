"""A picture as its twelve features, drawn as one figure that one can look at."""

import io
from typing import TYPE_CHECKING

import cv2
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from engine.features import colour, edges, gist, lbp, wavelets
from engine.features.codebook import NEVER, WORDS
from engine.features.describer import Describer, local_descriptors, plain_features
from engine.features.picture import grey_of, square
from engine.features.sift import KINDS, channels, dense_points, harris_points

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.projections.polar import PolarAxes

INK, MAIN, FAINT = "#333333", "#1f6f8b", "#b9b4a7"
TITLES = {"sift": "SIFT", "c-sift": "C-SIFT", "rgb-sift": "RGB-SIFT"}


def draw_portrait(
    picture_HWC: NDArray[np.uint8], title: str, describer: Describer | None = None
) -> bytes:
    """The figure as PNG.

    Args:
        picture_HWC: uint8 RGB.
        describer: its codebooks give the visual words; None: the channels are shown that the
            descriptors are of.
    """
    one = square(picture_HWC)
    found = plain_features(one, ("hsv-histogram", "lab-moments", "edge-directions"))
    found |= plain_features(one, ("wavelet-texture", "lbp", "gist"))
    figure = Figure(figsize=(15, 10.6), layout="constrained")
    grid = figure.add_gridspec(3, 4)
    corners = harris_points(grey_of(one))
    _show_picture(figure.add_subplot(grid[0, 0]), picture_HWC, corners)
    _show_hsv(figure.add_subplot(grid[0, 1]), found["hsv-histogram"])
    _show_lab(figure.add_subplot(grid[0, 2]), found["lab-moments"], 0)
    _show_lab(figure.add_subplot(grid[0, 3]), found["lab-moments"], 1)
    rose = figure.add_subplot(grid[1, 0], projection="polar")
    _show_edges(rose, found["edge-directions"])  # type: ignore[arg-type]
    _show_wavelets(figure.add_subplot(grid[1, 1]), found["wavelet-texture"])
    _show_lbp(figure.add_subplot(grid[1, 2]), found["lbp"])
    _show_gist(figure.add_subplot(grid[1, 3]), found["gist"])
    places = [figure.add_subplot(grid[2, column]) for column in range(4)]
    if describer is None:
        _show_channels(places, one)
    else:
        _show_words(places, one, describer)
    figure.suptitle(title, size=12, color=INK)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=100)
    return buffer.getvalue()


def _title(axes: "Axes", text: str) -> None:
    axes.set_title(text, size=9.5, color=INK)


def _bare(axes: "Axes") -> None:
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)


def _plain(axes: "Axes") -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=7.5, colors=INK)


def _show_picture(
    axes: "Axes", picture_HWC: NDArray[np.uint8], corners_P2: NDArray[np.int64]
) -> None:
    height, width = picture_HWC.shape[:2]
    axes.imshow(picture_HWC, extent=(0, 256, 256, 0), aspect=height / width)
    axes.plot(*corners_P2.T, "o", ms=4.5, mfc="none", mec="white", mew=1.6)
    axes.plot(*corners_P2.T, "o", ms=4.5, mfc="none", mec="#d1495b", mew=0.9)
    _bare(axes)
    _title(axes, f"the picture, {width} x {height} px, and {len(corners_P2)} Harris corners")


def _show_hsv(axes: "Axes", shares: NDArray[np.float32]) -> None:
    hue, saturation, value = np.unravel_index(
        np.arange(colour.HSV_WIDTH), (colour.HUES, colour.SATURATIONS, colour.VALUES)
    )
    hsv = np.stack([hue * 32 + 16, saturation * 64 + 32, value * 64 + 40], axis=1)
    rgb = cv2.cvtColor(hsv[None].astype(np.uint8), cv2.COLOR_HSV2RGB_FULL)[0] / 255
    axes.bar(np.arange(len(shares)), shares, width=1.0, color=rgb, ec=FAINT, lw=0.3)
    axes.set_xticks(
        np.arange(colour.HUES) * 16 + 7.5, [f"{degrees}°" for degrees in range(0, 360, 45)]
    )
    for border in range(16, colour.HSV_WIDTH, 16):
        axes.axvline(border - 0.5, color=FAINT, lw=0.5)
    axes.set_xlim(-0.5, colour.HSV_WIDTH - 0.5)
    _plain(axes)
    axes.set_xlabel("hue from; within it saturation, then value", size=8, color=INK)
    _title(axes, "HSV histogram: share of the pixels (128)")


def _show_lab(axes: "Axes", moments: NDArray[np.float32], which: int) -> None:
    cells = moments.reshape(colour.CELLS, colour.CELLS, 3, 3)
    _bare(axes)
    if which == 0:
        mean = np.ascontiguousarray(cells[..., 0])
        axes.imshow(np.clip(cv2.cvtColor(mean, cv2.COLOR_LAB2RGB), 0, 1))
        _title(axes, "L*a*b* moments (225): the cells' means")
        return
    axes.imshow(cells[:, :, 0, 1], cmap="Greys", vmin=0, vmax=45)
    for row, column in np.ndindex(colour.CELLS, colour.CELLS):
        lines = [
            f"{name} {cells[row, column, channel, 1]:.0f} / {cells[row, column, channel, 2]:+.0f}"
            for channel, name in enumerate("Lab")
        ]
        dark = cells[row, column, 0, 1] > 22
        ink = "white" if dark else INK
        axes.text(column, row, "\n".join(lines), size=6.3, ha="center", va="center", color=ink)
    _title(axes, "L*a*b* moments: deviation / skewness")


def _show_edges(axes: "PolarAxes", shares: NDArray[np.float32]) -> None:
    step = 2 * np.pi / edges.DIRECTIONS
    directions = np.arange(edges.DIRECTIONS) * step
    axes.bar(directions, shares[:-1], width=step, color=MAIN, ec="white", lw=0.4)
    axes.tick_params(labelsize=7.5, colors=INK)
    axes.set_yticklabels([])
    _title(axes, f"edges by direction (37): {100 * (1 - shares[-1]):.1f}% of the pixels")


def _show_wavelets(axes: "Axes", figures: NDArray[np.float32]) -> None:
    table = figures.reshape(wavelets.LEVELS, 3, 2)
    places = np.arange(wavelets.LEVELS)
    names = ("horizontal detail", "vertical", "diagonal")
    for band, (name, tint) in enumerate(zip(names, (MAIN, "#edae49", "#d1495b"), strict=True)):
        mean, spread = table[:, band].T
        axes.bar(places + 0.27 * (band - 1), mean, 0.25, color=tint, label=name)
        axes.errorbar(
            places + 0.27 * (band - 1),
            mean,
            yerr=[np.zeros_like(spread), spread],
            fmt="none",
            ecolor=INK,
            elinewidth=0.7,
        )
    axes.set_yscale("symlog", linthresh=0.01)
    axes.set_ylim(0, None)
    axes.set_xticks(places, [f"{2 << level} px" for level in places])
    _plain(axes)
    axes.legend(frameon=False, fontsize=7.5, loc="upper left")
    _title(axes, "wavelet texture (36): mean, and deviation above it")


def _show_lbp(axes: "Axes", shares: NDArray[np.float32]) -> None:
    colors = [MAIN] * (lbp.WIDTH - 1) + [FAINT]
    axes.bar(np.arange(lbp.WIDTH), shares, width=0.85, color=colors)
    axes.set_xlim(-1, lbp.WIDTH)
    _plain(axes)
    axes.set_xlabel("uniform pattern; last (grey): all others", size=8, color=INK)
    _title(axes, "local binary patterns: share of the pixels (59)")


def _show_gist(axes: "Axes", energies: NDArray[np.float32]) -> None:
    """Each cell as the spectrum that its filters make up, as Oliva and Torralba draw it."""
    cells = energies.reshape(3, gist.FILTERS, gist.CELLS, gist.CELLS).mean(axis=0)
    filters, _ = gist.transfer_functions()
    shown = np.fft.fftshift(filters, axes=(1, 2))[:, ::4, ::4]
    shown = shown + shown[:, ::-1, ::-1]
    spectra = np.einsum("frc,fyx->rycx", cells, shown)
    side = gist.CELLS * shown.shape[1]
    axes.imshow(spectra.reshape(side, side), cmap="magma")
    for border in range(1, gist.CELLS):
        axes.axhline(border * shown.shape[1] - 0.5, color="white", lw=0.8)
        axes.axvline(border * shown.shape[1] - 0.5, color="white", lw=0.8)
    _bare(axes)
    _title(axes, "GIST (960): spectrum of each cell, mean of R, G, B")


def _show_channels(places: list["Axes"], square_SS3: NDArray[np.uint8]) -> None:
    names = ("intensity (SIFT)", "O1/O3: red to green (C-SIFT)", "O2/O3: yellow to blue (C-SIFT)")
    planes = channels(square_SS3)
    for place, (axes, name) in enumerate(zip(places, names, strict=False)):
        plane = planes[..., place]
        reach = max(float(np.abs(plane).max()), 1.0)
        scale = ("gray", 0.0, 255.0) if place == 0 else ("RdBu_r", -reach, reach)
        axes.imshow(plane, cmap=scale[0], vmin=scale[1], vmax=scale[2])
        _bare(axes)
        _title(axes, name)
    right = np.abs(np.diff(planes[:-1, :, 3:], axis=1))
    down = np.abs(np.diff(planes[:, :-1, 3:], axis=0))
    strength = np.hypot(right, down)
    places[3].imshow(np.clip(strength / max(float(np.quantile(strength, 0.99)), 1.0), 0, 1))
    _bare(places[3])
    _title(places[3], "gradients of R, G and B (RGB-SIFT)")


def _show_words(places: list["Axes"], square_SS3: NDArray[np.uint8], describer: Describer) -> None:
    """The words of the dense grid, like ones in like colours, and how often each is there."""
    names = [name for name in describer.names if name in describer.codebooks]
    local = local_descriptors(square_SS3, names)
    side = round(np.sqrt(len(dense_points())))
    for axes, kind in zip(places, KINDS, strict=False):
        book = describer.codebooks[f"{kind}-dense"]
        words = book.nearest(local[f"{kind}-dense"][0])
        axes.imshow(_tints(book.words_WD)[words].reshape(side, side, 3))
        _bare(axes)
        used = len(np.unique(words))
        _title(axes, f"{TITLES[kind]} on the grid: {used} of 1,000 words")
    for kind, tint in zip(KINDS, (MAIN, "#edae49", "#d1495b"), strict=True):
        for suffix, style in (("dense", "-"), ("harris", "--")):
            name = f"{kind}-{suffix}"
            bag = describer.codebooks[name].bag(*local[name])[:WORDS]
            strongest = np.sort(bag)[::-1][:60]
            places[3].plot(strongest, style, color=tint, lw=1.2, label=f"{TITLES[kind]}, {suffix}")
    _plain(places[3])
    places[3].set_xlabel("words of the whole picture, the strongest first", size=8, color=INK)
    places[3].legend(frameon=False, fontsize=7.5)
    _title(places[3], "bags of words (5,000 each), TF-IDF")


def _tints(words_WD: NDArray[np.float32]) -> NDArray[np.float64]:
    """A colour for each word [W, 3], by its place along the codebook's first three axes."""
    used_W = words_WD[:, 0] != NEVER
    centred_WD = np.where(used_W[:, None], words_WD - words_WD[used_W].mean(axis=0), 0)
    _, _, axes_DD = np.linalg.svd(centred_WD, full_matrices=False)
    ranks_W3 = (centred_WD @ axes_DD[:3].T).argsort(axis=0).argsort(axis=0)
    tints_W3: NDArray[np.float64] = ranks_W3 / len(words_WD)
    return tints_W3
