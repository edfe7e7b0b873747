"""Duplicates made of real pictures: how many are found, and how many that are none.

    python -m benchmarks.dedup --corpus corel5k/images --corpus natural_scene/images --sources 200

Half of each corpus, by a hash of the names, chooses the rule: of those on a grid that are right in
`LEAST` of the pairs in every corpus, the one that finds most. The other half says what it is
worth. A copy and a picture are a pair where both tests pass; it is right if the copy was made of
the picture. A pair counts neither way if the copy's source and the picture are themselves
`ALIKE`: by eye, these are scenes taken twice. Then the copies are put behind their half and joined
as the job joins them. The last line is JSON, its ratios by name.
"""

import io
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import pyarrow as pa
import typer
from numpy.typing import NDArray
from PIL import Image, ImageEnhance

from engine import schema
from engine.corpus import split_rows
from engine.duplicates import Contents, NearRule, join_near
from engine.embed import backbone, resolve_compute
from engine.fingerprint import hash_distance
from engine.fingerprint_stage import PERCEPTUAL, fingerprint_stage
from engine.image import DecodeLimits, ImageError, decode
from engine.index import ArrayVectors, IndexWish, build_index
from engine.numerics.levels import unit_levels
from engine.picture_stages import embed_stage
from engine.stage import Plan, Workers
from jobs.listing import PICTURE_SUFFIXES

BATCH = 32
LEAST = 0.999
COMMAND = NearRule(cosine=0.8, hash_distance=10)
ALIKE = NearRule(cosine=0.9, hash_distance=12)
COSINES = (0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)
DISTANCES = (4, 6, 8, 10, 12, 14, 16, 64)

Change = Callable[[Image.Image], Image.Image]


def scaled(factor: float) -> Change:
    def change(image: Image.Image) -> Image.Image:
        size = (max(1, round(image.width * factor)), max(1, round(image.height * factor)))
        return image.resize(size, Image.Resampling.BICUBIC)

    return change


def cropped(left: float, right: float) -> Change:
    """Shares of the sides that are cut off, at the left and the top and at the others."""

    def change(image: Image.Image) -> Image.Image:
        width, height = image.size
        box = (width * left, height * left, width * (1 - right), height * (1 - right))
        return image.crop(tuple(round(edge) for edge in box))

    return change


def compressed(quality: int, first: Change = lambda image: image) -> Change:
    def change(image: Image.Image) -> Image.Image:
        sink = io.BytesIO()
        first(image).save(sink, "JPEG", quality=quality)
        return Image.open(io.BytesIO(sink.getvalue())).convert("RGB")

    return change


def lit(factor: float) -> Change:
    return lambda image: ImageEnhance.Brightness(image).enhance(factor)


COPIES: dict[str, Change] = {
    "half the size": scaled(0.5),
    "three quarters": scaled(0.75),
    "half as large again": scaled(1.5),
    "JPEG 30": compressed(30),
    "JPEG 50": compressed(50),
    "JPEG 70": compressed(70),
    "JPEG 90": compressed(90),
    "2% off each side": cropped(0.02, 0.02),
    "4% off each side": cropped(0.04, 0.04),
    "5% off two sides": cropped(0.05, 0.0),
    "darker by 20%": lit(0.8),
    "brighter by 20%": lit(1.2),
    "half the size, JPEG 50": compressed(50, scaled(0.5)),
}
OTHERS: dict[str, Change] = {
    "mirrored": lambda image: image.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
    "turned": lambda image: image.transpose(Image.Transpose.ROTATE_90),
}


@dataclass(frozen=True)
class Half:
    """Pictures of a half of a corpus, and copies of some of them.

    Attributes:
        vectors_NL, hashes_N: the pictures, then the copies and the others.
        source_C: of each copy, the picture that it was made of.
        change_C: of each copy, by what.
    """

    vectors_NL: NDArray[np.float32]
    hashes_N: NDArray[np.uint64]
    source_C: NDArray[np.int64]
    change_C: NDArray[np.str_]

    @property
    def pictures(self) -> int:
        return len(self.hashes_N) - len(self.source_C)

    def count(self, rule: NearRule) -> tuple[NDArray[np.bool_], int]:
        """Of each copy whether it and its source are a pair, and how many wrong pairs there are."""
        copies = np.arange(self.pictures, len(self.hashes_N))
        near_CN = self._near(copies, rule)
        right_C = near_CN[np.arange(len(copies)), self.source_C]
        wrong_CN = near_CN & ~self._near(self.source_C, ALIKE)
        return right_C, int(wrong_CN[self.is_copy].sum())

    def _near(self, rows_M: NDArray[np.int64], rule: NearRule) -> NDArray[np.bool_]:
        """Which of the pictures are near some rows: [M, pictures]."""
        cosine_MN = self.vectors_NL[rows_M] @ self.vectors_NL[: self.pictures].T
        distance_MN = hash_distance(
            self.hashes_N[rows_M][:, None], self.hashes_N[None, : self.pictures]
        )
        near_MN: NDArray[np.bool_] = cosine_MN >= rule.cosine
        return near_MN & (distance_MN <= rule.hash_distance)

    @property
    def is_copy(self) -> NDArray[np.bool_]:
        return ~np.isin(self.change_C, list(OTHERS))

    def joined(self, rule: NearRule) -> float:
        """Share of the copies that the job puts into their sources' groups."""
        contents = Contents(ArrayVectors(self.vectors_NL), self.hashes_N)
        index = build_index(contents.vectors, IndexWish())
        label_N = join_near(contents, index, rule)
        same_C = label_N[self.pictures :] == label_N[self.source_C]
        return float(same_C[self.is_copy].mean())


def halves(folder: Path, sources: int, name: str) -> Iterator[Half]:
    """The half that chooses, and the half that is measured."""
    spec = backbone(name)
    stages = (
        fingerprint_stage(DecodeLimits(), spec.geometry),
        embed_stage(name, resolve_compute("auto"), spec.geometry),
    )
    workers = Plan(stages, (schema.EMBEDDING, PERCEPTUAL)).workers()
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in PICTURE_SUFFIXES)
    for rows in split_rows([path.name for path in paths], 0.5, seed=0):
        data, images = [], []
        for row in rows:
            content = paths[row].read_bytes()
            try:
                images.append(Image.fromarray(decode(content, DecodeLimits())))
            except ImageError:
                continue
            data.append(content)
        pictures = len(data)
        drawn = np.random.default_rng(0).choice(pictures, min(sources, pictures), replace=False)
        source, change = [], []
        for place in np.sort(drawn):
            for what, make in (COPIES | OTHERS).items():
                sink = io.BytesIO()
                make(images[place]).save(sink, "PNG", compress_level=1)
                data.append(sink.getvalue())
                source.append(place)
                change.append(what)
        yield Half(*described(data, workers, spec.levels), np.array(source), np.array(change))


def described(
    data: list[bytes], workers: Workers, levels: tuple[int, ...]
) -> tuple[NDArray[np.float32], NDArray[np.uint64]]:
    """Vectors and hashes of pictures."""
    vectors, hashes = [], []
    for start in range(0, len(data), BATCH):
        part = data[start : start + BATCH]
        ids = [str(start + place) for place in range(len(part))]
        found = workers(pa.table({schema.IMAGE_ID: ids, schema.BYTES: part}))
        vectors.append(unit_levels(schema.float_tensor(found, schema.EMBEDDING), levels))
        hashes.append(found.column(PERCEPTUAL).to_numpy())
    return np.concatenate(vectors), np.concatenate(hashes)


def quality(half: Half, rule: NearRule) -> tuple[float, float]:
    """Recall and precision of pairs."""
    right_C, wrong = half.count(rule)
    found = int(right_C[half.is_copy].sum())
    return found / int(half.is_copy.sum()), found / max(1, found + wrong)


def chosen_rule(choosing: list[Half]) -> NearRule:
    """The rule that finds most, of those that are right enough in every corpus."""
    best, most = NearRule(1.0, 0), -1.0
    for cosine in COSINES:
        for distance in DISTANCES:
            rule = NearRule(cosine, distance)
            figures = [quality(half, rule) for half in choosing]
            recall = float(np.mean([recall for recall, _ in figures]))
            if min(precision for _, precision in figures) >= LEAST and recall > most:
                best, most = rule, recall
    return best


def main(
    corpus: Annotated[list[Path], typer.Option(help="A folder of pictures; repeatable.")],
    sources: Annotated[int, typer.Option(help="Pictures of a half that copies are made of.")] = 200,
    name: Annotated[str, typer.Option(help="The backbone.")] = "efficientnet-lite0",
) -> None:
    pairs = [tuple(halves(folder, sources, name)) for folder in corpus]
    rule = chosen_rule([choosing for choosing, _ in pairs])
    print(f"chosen: {rule}; the command's own: {COMMAND}")
    ratios: dict[str, object] = {"chosen": [rule.cosine, rule.hash_distance]}
    for folder, (_, half) in zip(corpus, pairs, strict=True):
        place = folder.parent.name
        recall, precision = quality(half, COMMAND)
        right_C, _ = half.count(COMMAND)
        joined = half.joined(COMMAND)
        print(
            f"{place}: {half.pictures:,} pictures, {int(half.is_copy.sum()):,} copies: recall "
            f"{recall:.3f}, precision {precision:.4f}, in their groups {joined:.3f}"
        )
        for what in COPIES | OTHERS:
            print(f"  {what:24s} {right_C[half.change_C == what].mean():.3f}")
        for alone, loose in (
            ("cosine", NearRule(COMMAND.cosine, 64)),
            ("hash", NearRule(-1.0, COMMAND.hash_distance)),
        ):
            with_one = quality(half, loose)
            print(f"  by the {alone} alone: recall {with_one[0]:.3f}, precision {with_one[1]:.4f}")
        ratios |= {
            f"recall_{place}": round(recall, 4),
            f"precision_{place}": round(precision, 4),
            f"joined_{place}": round(joined, 4),
        }
    print(json.dumps(ratios))


if __name__ == "__main__":
    typer.run(main)
