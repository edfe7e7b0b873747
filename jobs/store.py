"""A folder for a job's output, local or in object storage, where a file is there whole or not."""

import os
from pathlib import PurePosixPath

import fsspec

_DRAFT = ".draft-"


class Store:
    """Files under one fsspec URL. Picklable: workers open it anew."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._fs, self._root = fsspec.core.url_to_fs(url)

    def __reduce__(self) -> tuple[type["Store"], tuple[str]]:
        return Store, (self.url,)

    @property
    def is_local(self) -> bool:
        """Whether files are renamed into place; object storage puts them whole by itself."""
        return "file" in self._fs.protocol

    def path(self, name: str) -> str:
        """Where a file is, as the file system spells it."""
        return str(PurePosixPath(self._root) / name)

    def names(self) -> list[str]:
        """Files and folders directly in the store, drafts left out; [] where there is none."""
        self._fs.invalidate_cache()
        if not self._fs.exists(self._root):
            return []
        entries = self._fs.ls(self._root, detail=False)
        names = sorted(PurePosixPath(entry).name for entry in entries)
        return [name for name in names if not name.startswith(_DRAFT)]

    def is_file(self, name: str) -> bool:
        return bool(self._fs.isfile(self.path(name)))

    def read(self, name: str) -> bytes:
        """The content of a file."""
        data: bytes = self._fs.cat_file(self.path(name))
        return data

    def write(self, name: str, data: bytes) -> None:
        """Write a file so that it is never seen in part, whatever is killed when."""
        path = PurePosixPath(self.path(name))
        if not self.is_local:
            self._fs.pipe_file(str(path), data)
            return
        os.makedirs(path.parent, exist_ok=True)
        draft = path.parent / f"{_DRAFT}{os.getpid()}-{path.name}"
        with open(draft, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(draft, path)

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
