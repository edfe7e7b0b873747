"""A real S3 API that throttles, hangs up and is slow: what is read and written through it."""

import json
import pickle
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from engine.bundle import load_bundle
from engine.errors import BundleError, ConfigError, CorpusError
from engine.manifest import MANIFEST
from engine.stage import Plan, Stage
from engine.storage.bundles import (
    FetchedBundle,
    bundle_target,
    check_place,
    everywhere,
    fetch,
    open_at,
    place_of,
)
from engine.storage.files import open_fs, shown
from engine.storage.settings import CACHE, PATIENCE
from jobs.chunks import Chunk
from jobs.reading import read_chunk
from jobs.scratch import scratch_for, scratch_store
from jobs.session import storage_environment
from jobs.store import Store
from serve.config import Settings
from serve.pipeline import open_bundle
from serve.stages import reopen
from tests.inputs import inventory_of, rows_of, write_tar
from tests.object_store import BUCKET, SECRET, Fault, ObjectStore

OUT = f"s3://{BUCKET}/out"
BUNDLE = f"s3://{BUCKET}/bundle"


@pytest.fixture(autouse=True)
def _without_naps(monkeypatch: pytest.MonkeyPatch) -> None:
    """What would be waited for comes at once."""
    monkeypatch.setattr("tenacity.nap.time.sleep", lambda _: None)
    monkeypatch.setenv(PATIENCE, "60")


def test_a_store_is_written_and_read_through_faults(object_store: ObjectStore) -> None:
    store = Store(OUT)
    data = bytes(range(256)) * 40
    object_store.disturb(
        Fault("slow_down", "PUT", 2),
        Fault("reset", "PUT", 1),
        Fault("slow_down", "HEAD", 2),
        Fault("slow_down", "GET .*list-type", 1),
        Fault("cut", "GET .*part", 2),
        Fault("slow", "GET .*part", 2),
    )
    store.write("part", data)
    assert store.exists()
    assert store.names() == ["part"]
    assert store.is_file("part")
    assert not store.is_file("other")
    assert store.read("part") == data
    with store.open("part") as file:
        assert file.seek(100) == 100
        assert file.read(50) == data[100:150]
        assert file.read() == data[150:]
        assert file.seek(-7, 2) == len(data) - 7
        assert file.read() == data[-7:]
    assert all(fault.happened == fault.times for fault in object_store.proxy.faults)
    store.remove("part")
    assert not store.exists()


def test_shards_are_read_through_faults(object_store: ObjectStore, tmp_path: Path) -> None:
    pictures = [f"picture {number}".encode() for number in range(40)]
    pq.write_table(pa.table({"bytes": pictures}), tmp_path / "x.parquet", row_group_size=10)
    write_tar(tmp_path / "x.tar", {f"{n:02d}.jpg": data for n, data in enumerate(pictures)})
    object_store.put(tmp_path, BUCKET)
    chunks = [
        Chunk("0", "parquet", f"s3://{BUCKET}/x.parquet", 5, 30, "x"),
        Chunk("1", "tar", f"s3://{BUCKET}/x.tar", 5 * 1024, 30),
    ]
    object_store.disturb(
        Fault("slow_down", "HEAD", 2), Fault("cut", "GET", 3), Fault("slow_down", "GET", 2)
    )
    for chunk in chunks:
        read = [row for table in read_chunk(chunk, 8, 1000) for row in table.to_pylist()]
        assert [row["bytes"] for row in read] == pictures[5:35]
    assert all(fault.happened == fault.times for fault in object_store.proxy.faults)


def test_inputs_are_read_over_http(object_store: ObjectStore, tmp_path: Path) -> None:
    pictures = [f"picture {number}".encode() for number in range(8)]
    pq.write_table(pa.table({"id": range(8), "bytes": pictures}), tmp_path / "x.parquet")
    object_store.put(tmp_path, BUCKET)
    object_store.fs.chmod(f"{BUCKET}/x.parquet", "public-read")
    url = f"{object_store.proxy.url}/{BUCKET}/x.parquet"
    object_store.disturb(
        Fault("slow_down", "HEAD", 2), Fault("slow_down", "GET", 1), Fault("cut", "GET", 2)
    )
    rows = rows_of(inventory_of(url, tmp_path))
    assert [row["bytes"] for row in rows] == pictures
    assert all(fault.happened == fault.times for fault in object_store.proxy.faults)
    with pytest.raises(CorpusError, match="there is nothing at that path"):
        inventory_of(f"{url}.gone", tmp_path)


def test_workers_of_a_cluster_are_told_where_the_stores_are_and_no_secret() -> None:
    given = {
        "AWS_ENDPOINT_URL": "http://store",
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_SESSION_TOKEN": SECRET,
        "HOME": "/home",
    }
    assert storage_environment(given) == {"env_vars": {"AWS_ENDPOINT_URL": "http://store"}}
    assert storage_environment({}) is None
    assert storage_environment({**given, "RAY_JOB_CONFIG_JSON_ENV_VAR": "{}"}) is None


def test_pictures_are_fetched_through_faults_and_no_more_at_a_time_than_may_be(
    object_store: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"{number}.jpg" for number in range(24)]
    for name in names:
        object_store.fs.pipe_file(f"{BUCKET}/{name}", name.encode() * 100)
    uris = [f"s3://{BUCKET}/{name}" for name in [*names, "gone.jpg"]]
    pq.write_table(pa.table({"uri": uris}), tmp_path / "x.parquet")
    chunk = Chunk("0", "parquet", str(tmp_path / "x.parquet"), 0, 25, "x")
    object_store.disturb(
        Fault("slow_down", "GET /tagloom/3.jpg", 2),
        Fault("cut", "GET /tagloom/4.jpg", 1),
        Fault("reset", "GET /tagloom/5.jpg", 1),
        Fault("slow", "GET .*jpg", 20),
    )
    (table,) = read_chunk(chunk, 32, 10_000, fetches=6)
    rows = table.to_pylist()
    assert [row["bytes"] for row in rows[:-1]] == [name.encode() * 100 for name in names]
    assert rows[-1]["error"] == "unreadable_uri"
    assert "gone.jpg" in rows[-1]["reason"]
    assert "again" not in rows[-1]["reason"]
    gone = [asked for asked in object_store.proxy.requests if "gone" in asked]
    assert len(gone) <= 2, "a missing key is asked for once, as a file and as a folder"
    assert 4 <= object_store.proxy.most_under_way <= 6
    assert all(fault.happened == fault.times for fault in object_store.proxy.faults)

    monkeypatch.setenv(PATIENCE, "0.3")
    object_store.disturb(Fault("slow_down", "GET /tagloom/3.jpg", 100))
    (table,) = read_chunk(chunk, 32, 10_000)
    (failed, _) = [row for row in table.to_pylist() if row["error"]]
    assert failed["error"] == "unreadable_uri"
    assert "Reduce it" in failed["reason"]
    assert failed["reason"].endswith("(tried again, in vain)")


def test_a_store_that_fails_for_good_is_named_and_no_secret_is_told(
    object_store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(PATIENCE, "0.2")
    store = Store(OUT)
    object_store.disturb(Fault("slow_down", "", 1000))
    for act in (store.exists, partial(store.write, "x", b"1"), partial(store.read, "x")):
        with pytest.raises(
            ConfigError, match=rf"^{OUT}.*: the store fails \(.*status 503"
        ) as caught:
            act()
        assert SECRET not in str(caught.value)
    object_store.disturb(Fault("forbidden", "", 1000))
    with pytest.raises(ConfigError, match=r"the store does not do it .*credentials"):
        store.read("x")
    with pytest.raises(ConfigError, match=r"^http://127\.0\.0\.1:1/x: the store fails"):
        open_fs("http://127.0.0.1:1/x")[0].exists("http://127.0.0.1:1/x")
    assert shown("https://me:pass@host/a?sig=1") == "https://host/a"


def test_scratch_for_a_url(
    object_store: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with scratch_for(OUT) as work:
        assert Path(work).is_dir()
    with scratch_for(OUT, str(tmp_path)) as work:
        assert Path(work).parent == tmp_path
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ConfigError, match=r"is a URL, but .* name a folder"), scratch_for("x", OUT):
        pass
    with scratch_store(OUT) as store:
        store.write("x", b"1")
        assert store.url.startswith(f"{OUT}.scratch-")
    assert object_store.names(BUCKET) == set()
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    with pytest.raises(ConfigError, match="all nodes mount by --scratch"), scratch_for(OUT):
        pass


def _write_bundle(folder: Path, url: str, overwrite: bool = False) -> None:
    with bundle_target(url, overwrite) as draft:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                target = draft / path.relative_to(folder)
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(path.read_bytes())


def test_a_bundle_is_written_with_its_manifest_last_and_fetched_once(
    object_store: ObjectStore,
    bundle_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(CACHE, str(tmp_path / "cache"))
    local = load_bundle(bundle_folder)
    object_store.disturb(Fault("slow_down", "PUT", 3))
    _write_bundle(bundle_folder, BUNDLE)
    assert object_store.names(BUNDLE) == {*local.manifest.files, MANIFEST}
    puts = [asked for asked in object_store.proxy.requests if asked.startswith("PUT")]
    assert MANIFEST in puts[-1]

    object_store.disturb(Fault("cut", "GET .*safetensors", 2), Fault("slow_down", "GET", 2))
    folder = tmp_path / "cache" / "bundles" / local.id
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: fetch(BUNDLE, local.id, folder), range(4)))
    fetched = open_at(f"{BUNDLE}/")
    assert (fetched.id, fetched.folder, place_of(fetched)) == (local.id, folder, BUNDLE)
    whole = [a for a in object_store.proxy.requests if a.startswith("GET") and "vocabulary" in a]
    assert len(whole) == 1
    assert sorted(path.name for path in folder.parent.iterdir()) == [f".{local.id}.lock", local.id]

    # A touched cache is mended, and a plan takes the bundle along.
    (folder / "vocabulary.json").write_text("{}")
    assert open_at(BUNDLE).vocabulary == local.vocabulary
    assert isinstance(fetched, FetchedBundle)
    stage = Stage("load", _Load(folder), (), ())
    assert everywhere(Plan((stage,), ()), local).stages == (stage,)
    (shipped,) = pickle.loads(pickle.dumps(everywhere(Plan((stage,), ()), fetched))).stages
    for path in sorted(folder.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    shipped.make()
    assert load_bundle(folder).id == local.id
    # As a replica of a server does.
    ref, _ = open_bundle(Settings(bundle=BUNDLE))
    (folder / MANIFEST).unlink()
    assert reopen(ref).id == local.id


class _Load:
    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self) -> partial[pa.Table]:
        load_bundle(self.folder)
        return partial(pa.table, {})


def test_a_bundle_that_is_not_whole_is_none(
    object_store: ObjectStore,
    bundle_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(CACHE, str(tmp_path / "cache"))
    monkeypatch.setenv(PATIENCE, "0.2")
    object_store.disturb(Fault("slow_down", "PUT .*vocabulary", 1000))
    with pytest.raises(ConfigError, match=r"vocabulary.json: the store fails"):
        _write_bundle(bundle_folder, BUNDLE)
    assert object_store.names(BUNDLE)
    with pytest.raises(BundleError, match=f"^{BUNDLE}: no bundle there"):
        open_at(BUNDLE)
    object_store.disturb()
    _write_bundle(bundle_folder, BUNDLE)
    local = load_bundle(bundle_folder)
    assert open_at(BUNDLE).id == local.id

    with pytest.raises(BundleError, match=r"a bundle is there already; .*--overwrite"):
        check_place(BUNDLE, overwrite=False)
    object_store.fs.pipe_file(f"{BUCKET}/bundle/stale.json", b"1")
    _write_bundle(bundle_folder, BUNDLE, overwrite=True)
    assert object_store.names(BUNDLE) == {*local.manifest.files, MANIFEST}
    object_store.fs.pipe_file(f"{BUCKET}/mine/x", b"1")
    with pytest.raises(BundleError, match="something that is no bundle is there already"):
        check_place(f"s3://{BUCKET}/mine", overwrite=True)

    with pytest.raises(BundleError, match=f"holds bundle {local.id}, and 0000 when the job began"):
        fetch(BUNDLE, "0000", tmp_path / "cache" / "0000")
    object_store.fs.rm_file(f"{BUCKET}/bundle/vocabulary.json")
    with pytest.raises(BundleError, match=f"^{BUNDLE}: a file of the bundle is missing"):
        fetch(BUNDLE, local.id, tmp_path / "elsewhere" / local.id)
    object_store.fs.pipe_file(f"{BUCKET}/bundle/vocabulary.json", b"{}")
    with pytest.raises(BundleError, match=f"^{BUNDLE}: there: vocabulary.json was changed"):
        fetch(BUNDLE, local.id, tmp_path / "elsewhere" / local.id)
    assert [path.suffix for path in (tmp_path / "elsewhere").iterdir()] == [".lock"]


def test_a_bundle_names_no_file_outside_of_it(bundle_folder: Path, tmp_path: Path) -> None:
    from engine.manifest import read_manifest

    manifest = load_bundle(bundle_folder).manifest.model_copy(update={"files": {"../x": "0"}})
    content = {"id": manifest.id, **json.loads(manifest.model_dump_json())}
    text = json.dumps(content, indent=1, ensure_ascii=False)
    with pytest.raises(BundleError, match=r"names .*outside the bundle"):
        read_manifest(text.encode(), "x")
