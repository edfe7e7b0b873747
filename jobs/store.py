"""A folder for a job's output, local or in object storage, where a file is there whole or not."""

import errno
import os
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from engine.errors import ConfigError
from engine.storage.files import absolute, address, open_fs, shown

__all__ = ["Store", "absolute", "address", "open_fs"]

_DRAFT = ".draft-"


class Store:
    """Files under one fsspec URL. Picklable: workers open it anew.

    Attributes:
        url: the same place for every process, whatever its working directory.
    """

    def __init__(self, url: str) -> None:
        self.url = absolute(url)
        self._fs, self._root = open_fs(self.url)

    def __reduce__(self) -> tuple[type["Store"], tuple[str]]:
        return Store, (self.url,)

    @property
    def is_local(self) -> bool:
        """Whether files are renamed into place; object storage puts them whole by itself."""
        return "file" in self._fs.protocol

    def path(self, name: str) -> str:
        """Where a file is, as the file system spells it."""
        return str(PurePosixPath(self._root) / name)

    def address(self, name: str) -> str:
        """Where a file is, for any process to open."""
        return address(self._fs, self.path(name))

    def exists(self) -> bool:
        """Whether the store's own folder is there; in object storage, whether anything is in it."""
        self._fs.invalidate_cache()
        return bool(self._fs.exists(self._root))

    def names(self) -> list[str]:
        """Files and folders directly in the store, drafts left out; [] where there is none.

        Raises:
            ConfigError: a file is where the folder should be.
        """
        if not self.exists():
            return []
        if self._fs.isfile(self._root):
            raise ConfigError(f"{self.url}: is a file; name a folder")
        entries = self._fs.ls(self._root, detail=False)
        names = sorted(PurePosixPath(entry).name for entry in entries)
        return [name for name in names if not name.startswith(_DRAFT)]

    def is_file(self, name: str) -> bool:
        return bool(self._fs.isfile(self.path(name)))

    def read(self, name: str) -> bytes:
        """The content of a file."""
        data: bytes = self._fs.cat_file(self.path(name))
        return data

    def open(self, name: str) -> BinaryIO:
        """A file to read from, of which no more is fetched than is asked for."""
        file: BinaryIO = self._fs.open(self.path(name), "rb")
        return file

    def write(self, name: str, data: bytes) -> None:
        """Write a file so that it is never seen in part, whatever is killed when.

        Raises:
            ConfigError: the store refuses it.
        """
        path = PurePosixPath(self.path(name))
        try:
            if self.is_local:
                _write_whole(path, data)
            else:
                self._fs.pipe_file(str(path), data)
        except OSError as error:
            raise ConfigError(
                f"{shown(self.url)}: cannot be written ({error}); name a place that can be, with "
                "room left in it"
            ) from error

    def create(self, name: str, data: bytes) -> bool:
        """Write a file unless one of its name is there; say whether it was written.

        Raises:
            ConfigError: the store refuses it.
        """
        path = self.path(name)
        try:
            if self.is_local:
                return _create_whole(Path(path), data)
            self._fs.pipe_file(path, data, mode="create")
        except FileExistsError:
            return False
        except OSError as error:
            # How s3fs tells that the object is there.
            if error.errno == errno.EINVAL and not self.is_local and self.is_file(name):
                return False
            raise ConfigError(
                f"{self.url}: cannot be written ({error}); name a place that can be, with room "
                "left in it"
            ) from error
        return True

    def put_folder(self, folder: Path, name: str) -> None:
        """Copy a local folder's files into a folder of the store, one by one.

        Raises:
            ConfigError: the store refuses one.
        """
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            place = PurePosixPath(name) / path.relative_to(folder).as_posix()
            self.write(str(place), path.read_bytes())

    def get_folder(self, name: str, folder: Path) -> None:
        """Copy the files of a folder of the store, if there is any, into a local one."""
        root = PurePosixPath(self.path(name))
        for found in self._fs.find(str(root)):
            path = folder / PurePosixPath(found).relative_to(root)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(self._fs.cat_file(found))

    def sweep(self) -> None:
        """Remove the drafts that killed workers left."""
        if self.is_local and os.path.isdir(self._root):
            for name in os.listdir(self._root):
                if name.startswith(_DRAFT):
                    os.unlink(os.path.join(self._root, name))

    def remove(self, name: str) -> None:
        """Remove a file or a folder with all that is in it, if it is there."""
        if self._fs.exists(self.path(name)):
            self._fs.rm(self.path(name), recursive=True)

    def remove_if_empty(self) -> None:
        """Remove the store's own folder if nothing is in it."""
        if self.is_local and os.path.isdir(self._root) and not os.listdir(self._root):
            os.rmdir(self._root)


def _write_whole(path: PurePosixPath, data: bytes) -> None:
    os.makedirs(path.parent, exist_ok=True)
    draft = path.parent / f"{_DRAFT}{os.getpid()}-{path.name}"
    try:
        with open(draft, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(draft, path)
    except OSError:
        Path(draft).unlink(missing_ok=True)
        raise


def _create_whole(path: Path, data: bytes) -> bool:
    while True:
        os.makedirs(path.parent, exist_ok=True)
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        except FileExistsError:
            return False
        except FileNotFoundError:
            # Another process has just removed the folder.
            continue
        break
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
    except OSError:
        path.unlink()
        raise
    return True
