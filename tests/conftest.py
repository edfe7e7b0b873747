"""What tests share: a small tagged corpus that is drawn, decoded and embedded once a session."""

import json
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from engine import schema
from engine.bundle import new_bundle
from engine.config import FitConfig, load_config
from engine.corpus import Corpus, split_rows
from engine.embed import backbone
from engine.fitting import Material, fit_bundle
from engine.group import Solo
from engine.map_columns import maps_column, maps_stage
from engine.plan import embedding_plan
from engine.sample import SamplePicture, draw_picture
from engine.tensors import Tensors
from engine.vocab import Vocabulary
from jobs.__main__ import main
from jobs.annotate import annotate
from jobs.console import Console
from jobs.session import ray_session
from tests.clusters import canonical
from tests.clusters import cluster_of_two as cluster_of_two
from tests.clusters import two_nodes as two_nodes
from tests.features import cheap_features
from tests.gates import Gate
from tests.gates import gate as gate
from tests.gates import gate_server as gate_server
from tests.gates import gated_rows as gated_rows
from tests.object_store import Proxy
from tests.object_store import _store as _store
from tests.object_store import object_store as object_store
from tests.object_store import store_proxy as store_proxy

PICTURES = 280


@pytest.fixture(scope="session")
def pictures() -> list[SamplePicture]:
    """Drawn pictures with their true tags."""
    return [draw_picture(index, seed=3) for index in range(PICTURES)]


@pytest.fixture
def interruptible() -> Iterator[None]:
    """This process and those it starts heed Ctrl-C; a shell may have started it to ignore that."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="session")
def quick_config() -> FitConfig:
    """The defaults on the seeded random backbone, by a graph: workers then import no torch."""
    return load_config(None, ["embed.backbone=random", "embed.compute=openvino"])


@pytest.fixture(scope="session")
def material(pictures: list[SamplePicture], quick_config: FitConfig) -> Material:
    """The drawn pictures as a corpus, with thumbnails."""
    batch = pa.table(
        {
            schema.IMAGE_ID: [picture.image_id for picture in pictures],
            schema.BYTES: [picture.jpeg for picture in pictures],
        }
    )
    maps = maps_column("random", 1)
    plan = embedding_plan(quick_config, thumbnails=True)
    plan = replace(
        plan, stages=(*plan.stages, maps_stage(maps, "torch")), keeps=(*plan.keeps, maps)
    )
    embedded = plan.workers()(batch)
    features_ND = cheap_features([picture.jpeg for picture in pictures])
    tags = [picture.tags for picture in pictures]
    vocabulary = Vocabulary.learn(tags)
    ids = embedded.column(schema.IMAGE_ID).to_pylist()
    return Material(
        Corpus(
            tuple(ids),
            schema.float_tensor(embedded, schema.EMBEDDING),
            vocabulary.encode(tags),
            backbone(quick_config.embed.network).levels,
            tuple(picture.social_tags for picture in pictures),
            places_NV=vocabulary.encode_places(tags),
            columns={
                maps: Tensors(schema.tensor_values(embedded, maps), np.arange(len(ids))),
                schema.FEATURES: Tensors(features_ND, np.arange(len(ids))),
            },
        ),
        vocabulary,
        dict(zip(ids, embedded.column(schema.THUMBNAIL).to_pylist(), strict=True)),
    )


@pytest.fixture(scope="session")
def halves(material: Material) -> tuple[Corpus, Corpus]:
    """The drawn corpus as (training, held out): two hundred and ten pictures, and seventy."""
    training, held_out = split_rows(material.corpus.ids, 0.25, seed=0)
    return material.corpus.subset(training), material.corpus.subset(held_out)


@pytest.fixture
def rng() -> np.random.Generator:
    """Seeded anew for each test."""
    return np.random.default_rng(0)


@pytest.fixture(scope="session")
def corpus_folder(tmp_path_factory: pytest.TempPathFactory, pictures: list[SamplePicture]) -> Path:
    """The first 150 drawn pictures as a user has them: images/ and annotations.jsonl."""
    root = tmp_path_factory.mktemp("corpus")
    (root / "images").mkdir()
    with (root / "annotations.jsonl").open("w", encoding="utf-8") as lines:
        for picture in pictures[:150]:
            file = f"images/{picture.image_id}.jpg"
            (root / file).write_bytes(picture.jpeg)
            lines.write(json.dumps({"file": file, "tags": picture.tags}) + "\n")
    return root


@pytest.fixture(scope="session")
def bundle_folder(
    tmp_path_factory: pytest.TempPathFactory, material: Material, quick_config: FitConfig
) -> Path:
    """A bundle learned from the drawn pictures. Not to be written to."""
    folder = tmp_path_factory.mktemp("bundles") / "bundle"
    with new_bundle(folder, overwrite=False) as draft:
        fit_bundle(draft, material, quick_config, Solo(), lambda _: None)
    return folder


@pytest.fixture(scope="session")
def social_bundle_folder(tmp_path_factory: pytest.TempPathFactory, material: Material) -> Path:
    """A bundle that reads social tags beside the picture. Not to be written to."""
    folder = tmp_path_factory.mktemp("bundles") / "social"
    annotators = 'annotators={linear={kind="linear"},social={kind="social"}}'
    config = load_config(None, ["embed.backbone=random", "embed.compute=openvino", annotators])
    with new_bundle(folder, overwrite=False) as draft:
        fit_bundle(draft, material, config, Solo(), lambda _: None)
    return folder


@pytest.fixture(scope="session")
def cluster(store_proxy: Proxy) -> Iterator[None]:
    """Ray with two CPUs, for all the tests that run jobs in this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("RAY_ADDRESS", raising=False)
        with ray_session(cpus=2):
            yield


@dataclass(frozen=True)
class Outcome:
    """What a command left to be seen: its exit code and all it said."""

    code: int
    out: str
    err: str


Tagloom = Callable[..., Outcome]


@pytest.fixture
def tagloom(
    cluster: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Tagloom:
    """Run a command of the command line in this process, on the tests' own Ray."""

    def run(*arguments: object) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["tagloom", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as caught:
            main()
        said = capsys.readouterr()
        return Outcome(int(caught.value.code or 0), said.out, said.err)

    return run


@pytest.fixture(scope="session")
def undisturbed(
    cluster: None,
    gate_server: tuple[Gate, str],
    gated_rows: Path,
    bundle_folder: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> bytes:
    """What a job on the gated rows ends with that nothing happens to."""
    output = tmp_path_factory.mktemp("undisturbed") / "out"
    gate_server[0].open.set()
    annotate(str(gated_rows), str(bundle_folder), str(output), 5, Console(quiet=True))
    gate_server[0].open.clear()
    return canonical(output)
