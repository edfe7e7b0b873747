"""A folder in another's place: whoever looks finds one of the two, whole."""

import threading
from pathlib import Path

import pytest

from engine import swap
from engine.bundle import new_bundle
from tests.unit.test_bundle import fill


def folder(path: Path, text: str) -> Path:
    path.mkdir()
    (path / "file").write_text(text)
    return path


@pytest.mark.parametrize("exchanges", [True, False])
def test_the_new_one_is_there_and_the_old_one_under_its_name(
    exchanges: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not exchanges:
        monkeypatch.setattr(swap, "_exchange", lambda one, other: False)
    old, new = folder(tmp_path / "bundle", "old"), folder(tmp_path / "draft", "new")
    swap.put_in_place(new, old)
    assert (old / "file").read_text() == "new"
    assert (new / "file").read_text() == "old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bundle", "draft"]


def test_where_nothing_is_it_is_a_renaming(tmp_path: Path) -> None:
    swap.put_in_place(folder(tmp_path / "draft", "new"), tmp_path / "bundle")
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


def test_a_bundle_is_there_at_every_moment_of_its_replacement(tmp_path: Path) -> None:
    target = tmp_path / "bundle"
    with new_bundle(target, overwrite=False) as draft:
        fill(draft)
    missing: list[int] = []
    done = threading.Event()

    def look() -> None:
        while not done.is_set():
            if not (target / "manifest.json").is_file():
                missing.append(1)

    watcher = threading.Thread(target=look)
    watcher.start()
    for _ in range(30):
        with new_bundle(target, overwrite=True) as draft:
            fill(draft)
    done.set()
    watcher.join()
    assert missing == []
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]
