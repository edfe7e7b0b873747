"""The accuracy gate: the fastest way that agrees is taken, and what was measured is told."""

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from engine import accuracy
from engine.accuracy import choose_way
from engine.config import FitConfig, load_config
from engine.embed import Backbone, Compute, Embedder, Machine, candidates, load_embedder
from engine.errors import ConfigError
from engine.sample import SamplePicture

RNG = np.random.default_rng(0)
CLASSES_DV = RNG.standard_normal((256, 12)).astype(np.float32)


def score(embeddings_BD: NDArray[np.float32]) -> NDArray[np.float32]:
    return embeddings_BD @ CLASSES_DV


def config(*overrides: str) -> FitConfig:
    return load_config(None, ["embed.backbone=random", *overrides])


def encoded(pictures: Sequence[SamplePicture]) -> list[bytes]:
    """Twelve pictures that are too small to be decoded at a fraction of their size."""
    return [resized(picture.jpeg, 120, 90) for picture in pictures[:12]]


def resized(jpeg: bytes, width: int, height: int) -> bytes:
    out = BytesIO()
    Image.open(BytesIO(jpeg)).resize((width, height)).save(out, "JPEG")
    return out.getvalue()


@pytest.fixture
def worse(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bfloat16 that is off by a third of what there is to tell pictures apart."""

    def load(
        backbone: Backbone, compute: Compute, graph: Path | None = None, threads: int = 1
    ) -> Embedder:
        embedder = load_embedder(backbone, "torch")
        if compute != "openvino-bf16":
            return embedder

        def run(pixels_BHWC: NDArray[np.uint8]) -> NDArray[np.float32]:
            exact_BD = embedder(pixels_BHWC)
            noise_BD = np.random.default_rng(1).standard_normal(exact_BD.shape)
            return (exact_BD + exact_BD.std() / 3 * noise_BD).astype(np.float32)

        return Embedder(backbone, run)

    machine = Machine(gpus=0, openvino=True, openvino_bf16=True, onnxruntime=True)
    monkeypatch.setattr(accuracy, "load_embedder", load)
    monkeypatch.setattr(accuracy, "this_machine", lambda: machine)


def test_a_way_that_is_not_near_enough_is_told_of_and_not_taken(
    tmp_path: Path, pictures: list[SamplePicture], worse: None
) -> None:
    way = choose_way(tmp_path, config(), encoded(pictures), score)
    assert (way.compute, way.pixels) == ("openvino", "reference")
    assert [(one.compute, one.pixels) for one in way.tried] == [
        ("openvino-bf16", "reference"),
        ("openvino", "reference"),
    ]
    assert way.tried[0].same_tags < 0.99
    assert way.tried[0].cosine < 0.999
    assert way.tried[-1].cosine > 0.999
    assert way.tried[-1].pictures == 12
    assert "openvino-bf16 from reference pixels is not near enough" in way.notes[0]
    assert len(way.notes) == 1


def test_a_looser_limit_takes_it(
    tmp_path: Path, pictures: list[SamplePicture], worse: None
) -> None:
    loose = config("embed.accuracy.cosine=0", "embed.accuracy.same_tags=0")
    way = choose_way(tmp_path, loose, encoded(pictures), score)
    assert (way.compute, way.pixels) == ("openvino-bf16", "reference")
    assert way.notes == ()
    assert way.graph is not None
    assert (tmp_path / way.graph / "part-0.xml").is_file()
    assert len(list((tmp_path / "graph").iterdir())) == 1


def test_scaled_decoding_is_tried_where_pictures_are_large(
    tmp_path: Path, pictures: list[SamplePicture]
) -> None:
    large = [resized(jpeg, 900, 700) for jpeg in encoded(pictures)]
    loose = config("embed.compute=torch", "embed.accuracy.same_tags=0")
    assert choose_way(tmp_path, loose, large, score).pixels == "scaled"
    strict = config("embed.compute=torch", "embed.accuracy.cosine=1")
    way = choose_way(tmp_path, strict, large, score)
    assert way.pixels == "reference"
    assert [one.pixels for one in way.tried] == ["scaled", "reference"]


def test_what_is_named_is_tried_alone_and_falls_back_to_the_reference(
    tmp_path: Path, pictures: list[SamplePicture]
) -> None:
    named = config("embed.compute=torch-half", "embed.pixels=vectorised", "embed.accuracy.cosine=1")
    way = choose_way(tmp_path, named, encoded(pictures), score)
    assert (way.compute, way.pixels, way.graph) == ("torch", "reference", None)
    assert {one.compute for one in way.tried} == {"torch-half", "torch"}


def test_int8_is_calibrated_on_the_sample_and_measured_like_the_others(
    tmp_path: Path, pictures: list[SamplePicture]
) -> None:
    named = config("embed.compute=openvino-int8", "embed.accuracy.same_tags=0")
    lax = named.model_copy(
        update={
            "embed": named.embed.model_copy(
                update={"accuracy": named.embed.accuracy.model_copy(update={"cosine": 0.9})}
            )
        }
    )
    way = choose_way(tmp_path, lax, encoded(pictures), score)
    assert way.compute == "openvino-int8"
    assert way.graph is not None
    assert 0.9 <= way.tried[-1].cosine < 0.999999


def test_without_a_picture_to_measure_on_it_is_float32(tmp_path: Path) -> None:
    way = choose_way(tmp_path, config(), [b"no picture"], score)
    assert (way.compute, way.pixels, way.tried) == ("openvino", "reference", ())
    with pytest.raises(ConfigError, match="calibrate"):
        choose_way(tmp_path, config("embed.compute=openvino-int8"), [], score)


MACHINE = Machine(gpus=0, openvino=True, openvino_bf16=True, onnxruntime=True)


@pytest.mark.parametrize(
    ("compute", "machine", "expected"),
    [
        ("auto", MACHINE, ("openvino-bf16", "openvino")),
        ("auto", Machine(0, True, False, True), ("openvino",)),
        ("auto", Machine(0, False, False, True), ("onnxruntime",)),
        ("auto", Machine(0, False, False, False), ("torch",)),
        ("auto", Machine(2, True, True, True), ("torch-half", "torch")),
        ("openvino", Machine(2, True, True, True), ("openvino",)),
        ("openvino-int8", MACHINE, ("openvino-int8", "openvino")),
        ("torch-half", MACHINE, ("torch-half", "torch")),
    ],
)
def test_what_may_compute_here_fastest_first(
    compute: Compute, machine: Machine, expected: tuple[Compute, ...]
) -> None:
    assert candidates(compute, machine) == expected
