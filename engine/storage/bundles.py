"""Bundles by path or URL: fetched once a node into a cache, put at a URL whole or not at all."""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path

from fsspec import AbstractFileSystem

from engine.bundle import Bundle, check_target, load_bundle, new_bundle
from engine.errors import BundleError, ConfigError
from engine.manifest import MANIFEST, Manifest, read_manifest
from engine.stage import Plan, Worker
from engine.storage.files import is_remote, local_path, open_fs, shown
from engine.storage.settings import CACHE

_UNFINISHED = ".unfinished"
"""What is at a URL as long as a bundle is being put there."""

_AT_ONCE = 8
"""Files of a bundle that are on their way at a time."""


@dataclass(frozen=True)
class FetchedBundle(Bundle):
    """A bundle in this node's cache.

    Attributes:
        url: where it was fetched from.
    """

    url: str = ""


def open_at(name: str) -> Bundle:
    """Open a bundle's folder; one at a URL is fetched, unless this node's cache has it.

    Raises:
        BundleError: there is none, or it was changed: see `engine.bundle.load_bundle`.
        ConfigError: the store does not give it, or it cannot be kept here.
    """
    if not is_remote(name):
        return load_bundle(local_path(name).absolute())
    url = name.rstrip("/")
    bundle_id = _manifest(*open_fs(url), url).id
    folder = _cache() / bundle_id
    fetch(url, bundle_id, folder)
    try:
        bundle = load_bundle(folder)
    except BundleError:
        # Someone touched the cache.
        fetch(url, bundle_id, folder, again=True)
        bundle = load_bundle(folder)
    return FetchedBundle(bundle.folder, bundle.manifest, bundle.rules, url)


def place_of(bundle: Bundle) -> str:
    """Where a bundle was opened: its folder or its URL."""
    return bundle.url if isinstance(bundle, FetchedBundle) else str(bundle.folder)


def everywhere(plan: Plan, bundle: Bundle) -> Plan:
    """A plan whose workers find the bundle on every node: one from a URL, they fetch if need be."""
    if not isinstance(bundle, FetchedBundle):
        return plan
    origin = (bundle.url, bundle.id, bundle.folder)
    stages = (replace(s, make=partial(_make_here, origin, s.make)) for s in plan.stages)
    return replace(plan, stages=tuple(stages))


def _make_here(origin: tuple[str, str, Path], make: Callable[[], Worker]) -> Worker:
    _fetch_once(*origin)
    return make()


def fetch(url: str, bundle_id: str, folder: Path, again: bool = False) -> None:
    """See that the bundle of a URL is in a folder of this node, for all processes at once.

    Args:
        again: fetch it even if it is there.

    Raises:
        BundleError: another is at the URL by now, or it is not whole.
        ConfigError: the store does not give it, or it cannot be written here.
    """
    if not again and _is_whole(folder):
        return
    with _alone(folder):
        if not again and _is_whole(folder):
            return
        fs, root = open_fs(url)
        manifest = _manifest(fs, root, url)
        if manifest.id != bundle_id:
            raise BundleError(
                f"{url}: holds bundle {manifest.id}, and {bundle_id} when the job began; start "
                "again, and leave a bundle in its place while a job uses it"
            )
        draft = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
        shutil.rmtree(draft, ignore_errors=True)
        try:
            _download(fs, root, (*manifest.files, MANIFEST), draft)
            load_bundle(draft)
            shutil.rmtree(folder, ignore_errors=True)
            draft.rename(folder)
        except BundleError as error:
            raise BundleError(f"{url}: {str(error).replace(str(draft), 'there')}") from error
        except FileNotFoundError as error:
            raise BundleError(
                f"{url}: a file of the bundle is missing ({error}); copy the whole bundle again"
            ) from error
        except OSError as error:
            raise ConfigError(
                f"{folder}: the bundle of {url} cannot be kept there ({error}); name by {CACHE} a "
                "folder with room that every node can write"
            ) from error
        finally:
            shutil.rmtree(draft, ignore_errors=True)


_fetch_once = cache(fetch)


@contextmanager
def bundle_target(out: str, overwrite: bool) -> Iterator[Path]:
    """A temporary folder to make a bundle in, as `engine.bundle.new_bundle`; `out` may be a URL.

    At a URL the manifest is put last, without which no bundle is there: whoever reads finds all of
    it or none. What a killed run left half-way may be written over.

    Raises:
        BundleError: something is there that may not be replaced.
        ConfigError: the store does not take it.
    """
    if not is_remote(out):
        with new_bundle(local_path(out), overwrite) as draft:
            yield draft
        return
    check_place(out, overwrite)
    with tempfile.TemporaryDirectory(prefix="tagloom-") as work:
        folder = Path(work) / "bundle"
        with new_bundle(folder, overwrite=False) as draft:
            yield draft
        _upload(folder, load_bundle(folder).manifest, out)


def check_place(out: str, overwrite: bool) -> None:
    """Refuse to write a bundle where something is already; `out` may be a URL.

    Raises:
        BundleError: something is there that may not be replaced.
        ConfigError: the store does not answer.
    """
    if not is_remote(out):
        check_target(local_path(out), overwrite)
        return
    fs, root = open_fs(out)
    if not fs.exists(root) or fs.isfile(f"{root}/{_UNFINISHED}"):
        return
    is_bundle = fs.isfile(f"{root}/{MANIFEST}")
    if not (overwrite and is_bundle):
        what = "a bundle" if is_bundle else "something that is no bundle"
        raise BundleError(
            f"{shown(out)}: {what} is there already; name another place"
            + (", or allow it with --overwrite" if is_bundle else "")
        )


def _upload(folder: Path, manifest: Manifest, url: str) -> None:
    fs, root = open_fs(url)
    paths = {name: f"{root}/{name}" for name in manifest.files}
    last, mark = f"{root}/{MANIFEST}", f"{root}/{_UNFINISHED}"
    old = set(fs.find(root)) if fs.exists(root) else set()
    fs.pipe_file(mark, b"")
    # First, so that nobody takes a mixture of two bundles for one.
    _remove(fs, old & {last})
    _side_by_side(lambda name: fs.put_file(str(folder / name), paths[name]), manifest.files)
    _remove(fs, old - {*paths.values(), last, mark})
    fs.pipe_file(last, (folder / MANIFEST).read_bytes())
    _remove(fs, [mark])


def _remove(fs: AbstractFileSystem, paths: Iterable[str]) -> None:
    for path in sorted(paths):
        fs.rm_file(path)


def _download(fs: AbstractFileSystem, root: str, names: Iterable[str], folder: Path) -> None:
    def get(name: str) -> None:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        fs.get_file(f"{root}/{name}", str(folder / name))

    _side_by_side(get, names)


def _side_by_side(act: Callable[[str], None], names: Iterable[str]) -> None:
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        list(pool.map(act, names))


def _manifest(fs: AbstractFileSystem, root: str, url: str) -> Manifest:
    try:
        content = fs.cat_file(f"{root}/{MANIFEST}")
    except (FileNotFoundError, NotADirectoryError):
        content = None
    return read_manifest(content, shown(url))


def _is_whole(folder: Path) -> bool:
    try:
        files = read_manifest((folder / MANIFEST).read_bytes(), str(folder)).files
    except (OSError, BundleError):
        return False
    return all((folder / name).is_file() for name in files)


def _cache() -> Path:
    given = os.environ.get(CACHE)
    place = Path(given) if given else Path(tempfile.gettempdir()) / f"tagloom-{os.getuid()}"
    return place.absolute() / "bundles"


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Be the one process of this node that makes a folder; the lock goes with the process."""
    try:
        folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = os.open(folder.with_name(f".{folder.name}.lock"), os.O_CREAT | os.O_RDWR, 0o600)
    except OSError as error:
        raise ConfigError(
            f"{folder}: a bundle cannot be kept there ({error}); name by {CACHE} a folder that "
            "every node can write"
        ) from error
    try:
        # Where anybody may make folders, one of that name may be somebody else's.
        if CACHE not in os.environ and folder.parent.stat().st_uid != os.getuid():
            raise ConfigError(
                f"{folder.parent}: is another user's; name by {CACHE} a folder of your own"
            )
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)
