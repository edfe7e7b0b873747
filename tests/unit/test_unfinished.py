"""What a fit has made so far: kept while it is stopped, gone on with, refused to another, gone."""

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from engine.errors import ConfigError, CorpusError
from jobs.console import Console
from jobs.unfinished import JOB, SUFFIX, Begun, Unfinished, unfinished
from tests.object_store import BUCKET, ObjectStore

QUIET = Console(quiet=True)
FIT = Begun(corpus="/c", fingerprint="1", embedding="e")


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def stop(
    out: Path,
    error: type[BaseException],
    act: Callable[[Unfinished], None],
    checkpoints: str | None = None,
) -> None:
    """A fit that did something and then met an error."""

    def fit() -> None:
        with unfinished(str(out), QUIET, checkpoints) as begun:
            act(begun)
            raise error

    with pytest.raises(error):
        fit()


def embed(fit: Unfinished) -> None:
    fit.claim(FIT, overwrite=False)
    pq.write_table(pa.table({"x": [1]}), fit.kept.path("part-00000-00000.parquet"))


def test_it_is_there_while_the_fit_is_and_gone_at_its_end(tmp_path: Path) -> None:
    out = tmp_path / "new" / "bundle"
    with unfinished(str(out), QUIET) as fit:
        assert fit.kept.url == fit.work.url
        fit.claim(FIT, overwrite=False)
        assert names(out.parent) == {f"bundle{SUFFIX}"}
        with (
            pytest.raises(ConfigError, match="another job writes there"),
            unfinished(str(out), QUIET),
        ):
            pass
    assert names(tmp_path) == set()


@pytest.mark.parametrize("error", [KeyboardInterrupt, ConfigError])
def test_what_was_made_stays_when_it_is_stopped_and_is_gone_on_with(
    tmp_path: Path, error: type[BaseException]
) -> None:
    out = tmp_path / "bundle"
    stop(out, error, embed)
    assert names(tmp_path) == {"bundle.unfinished"}
    with unfinished(str(out), QUIET) as fit:
        assert fit.earlier == FIT
        fit.claim(FIT, overwrite=False)
        assert "part-00000-00000.parquet" in fit.kept.names()
    assert names(tmp_path) == set()


def test_of_what_cannot_be_learned_from_nothing_stays(tmp_path: Path) -> None:
    stop(tmp_path / "bundle", CorpusError, embed)
    stop(tmp_path / "bundle", ConfigError, lambda fit: fit.claim(FIT, overwrite=False))
    assert names(tmp_path) == set()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"corpus": "/d"}, "of another corpus, /c; run that one again"),
        ({"fingerprint": "2"}, "of this corpus before it changed; run"),
        ({"embedding": "f"}, "of it by other settings of how pictures are embedded"),
    ],
)
def test_another_fit_is_refused_unless_it_may_overwrite(
    tmp_path: Path, change: dict[str, str], said: str
) -> None:
    out = tmp_path / "bundle"
    stop(out, KeyboardInterrupt, embed)
    other = FIT.model_copy(update=change)
    with pytest.raises(ConfigError, match=said), unfinished(str(out), QUIET) as fit:
        fit.claim(other, overwrite=False)
    assert names(out.with_name("bundle.unfinished")) == {JOB, "part-00000-00000.parquet"}
    stop(out, KeyboardInterrupt, lambda fit: fit.claim(other, overwrite=True))
    assert names(out.with_name("bundle.unfinished")) == {JOB}


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    place = tmp_path / "letters"
    place.mkdir()
    (place / "letter.txt").write_text("dear")
    with (
        pytest.raises(ConfigError, match="holds no unfinished fit of this program"),
        unfinished(str(tmp_path / "bundle"), QUIET, str(place)),
    ):
        pass
    assert names(place) == {"letter.txt"}


def test_it_is_kept_in_the_scratch_folder_where_there_is_one(tmp_path: Path) -> None:
    """Which all nodes see, as they need not see the place of the bundle."""
    shared = tmp_path / "shared"
    for place in ("a", "b"):
        out = str(tmp_path / place / "bundle")
        with unfinished(out, QUIET, scratch=str(shared)) as fit:
            fit.claim(FIT, overwrite=False)
            assert fit.kept.url == fit.work.url
            (kept,) = names(shared)
            assert kept.startswith("bundle-")
            assert kept.endswith(SUFFIX)
            with unfinished(str(tmp_path / "c" / "bundle"), QUIET, scratch=str(shared)):
                assert len(names(shared)) == 2
    assert names(tmp_path) == set()
    with (
        pytest.raises(ConfigError, match="is a URL, but"),
        unfinished("bundle", QUIET, scratch="s3://b/x"),
    ):
        pass


def test_folders_are_kept_in_a_bucket_and_restored_in_another_place(
    object_store: ObjectStore, tmp_path: Path
) -> None:
    place = f"s3://{BUCKET}/begun"

    def train(fit: Unfinished) -> None:
        fit.claim(FIT, overwrite=False)
        folder = fit.restore("training")
        assert not folder.exists()
        (folder / "run" / "epoch-1").mkdir(parents=True)
        (folder / "run" / "epoch-1" / "state").write_bytes(b"s")
        (folder / "block").write_bytes(b"large")
        fit.keep("training", ("run",))

    stop(tmp_path / "bundle", KeyboardInterrupt, train, place)
    assert names(tmp_path) == set()
    assert object_store.names(place) == {JOB, "training.tar"}
    with unfinished(str(tmp_path / "bundle"), QUIET, place) as fit:
        fit.claim(FIT, overwrite=False)
        folder = fit.restore("training")
        assert (folder / "run" / "epoch-1" / "state").read_bytes() == b"s"
        assert names(folder) == {"run"}
    assert names(tmp_path) == set()
    assert object_store.names(place) == set()
