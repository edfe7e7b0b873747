"""A bundle swapped under load where the stages are deployments of their own: none mixes two."""

import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.bundle import load_bundle, new_bundle
from engine.config import FitConfig
from engine.corpus import Corpus
from engine.fitting import Material, fit_bundle
from engine.group import Solo
from engine.sample import SamplePicture
from engine.vocab import Vocabulary
from tests.serving import Load, Server, start, stop


@pytest.fixture(scope="module")
def other_folder(
    tmp_path_factory: pytest.TempPathFactory,
    material: Material,
    quick_config: FitConfig,
    pictures: list[SamplePicture],
) -> Path:
    """A bundle like the first whose tags all have other names: a stage of the other is seen."""
    tags = [[f"other {tag}" for tag in picture.tags] for picture in pictures]
    vocabulary = Vocabulary.learn(tags)
    old = material.corpus
    corpus = Corpus(old.ids, old.embeddings_ND, vocabulary.encode(tags), old.levels)
    folder = tmp_path_factory.mktemp("others") / "bundle"
    with new_bundle(folder, overwrite=False) as draft:
        other = Material(corpus, vocabulary, material.thumbnails)
        fit_bundle(draft, other, quick_config, Solo(), lambda _: None)
    return folder


@pytest.fixture
def server(tmp_path: Path, bundle_folder: Path) -> Iterator[Server]:
    folder = tmp_path / "bundle"
    shutil.copytree(bundle_folder, folder)
    parts = ("ingress", "embed", "annotator", "fuse")
    cpus = [option for part in parts for option in ("--set", f"{part}.cpus=0.5")]
    running = start(folder, "--set", "topology=split", *cpus)
    try:
        running.wait_for("serving at")
        yield running
    finally:
        stop(running)


def told(body: dict[str, Any]) -> str:
    """The bundle that answered and the kind of its tags, or an error's code."""
    if "bundle_id" not in body:
        return str(body["error"]["code"])
    kinds = {tag["tag"].startswith("other ") for one in body["results"] for tag in one["tags"]}
    return f"{body['bundle_id']} {kinds}"


def test_stages_on_their_own_are_swapped_without_a_lost_request(
    server: Server, other_folder: Path, pictures: list[SamplePicture]
) -> None:
    old, new = load_bundle(server.folder), load_bundle(other_folder)
    with Load(server.url, [one.jpeg for one in pictures[:2]], clients=3, tell=told) as load:
        time.sleep(1)
        shutil.rmtree(server.folder)
        shutil.copytree(other_folder, server.folder)
        time.sleep(0.5)
        server.process.send_signal(signal.SIGHUP)
        server.wait_for(f"serving bundle {new.id}")
        swapped = time.monotonic()
        time.sleep(6)
    answers = sorted(load.answers)
    assert {(status, said) for _, _, status, said in answers} == {
        (200, f"{old.id} {{False}}"),
        (200, f"{new.id} {{True}}"),
    }
    assert answers[0][3].startswith(old.id)
    late = [said for begun, _, _, said in answers if begun > swapped + 5]
    assert late
    assert all(said.startswith(new.id) for said in late)
