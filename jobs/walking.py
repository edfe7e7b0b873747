"""Walks the files below a folder or a prefix in the order of their paths, page by page.

A prefix in object storage may hold millions of objects: whoever takes a page does not wait for the
next, and none is kept. In S3 a page is one answer to a listing request; elsewhere it is what lies
in one folder.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

from fsspec import AbstractFileSystem


@dataclass(frozen=True)
class File:
    """A file below the root.

    Attributes:
        path: as its file system spells it.
        name: its path from the root on.
        state: what changes when the file does.
    """

    path: str
    name: str
    state: str

    @property
    def suffix(self) -> str:
        return PurePosixPath(self.name).suffix.lower()

    @property
    def is_hidden(self) -> bool:
        return any(part.startswith(".") for part in PurePosixPath(self.name).parts)


def walk(fs: AbstractFileSystem, root: str) -> Iterator[list[File]]:
    """Yield the files below `root`, however deep, sorted by path; pages may be empty."""
    root = root.rstrip("/")
    protocols = (fs.protocol,) if isinstance(fs.protocol, str) else fs.protocol
    if "s3" in protocols:
        yield from _s3_pages(fs, root)
    elif "http" in protocols:
        # Links of a page, which need not form a tree.
        found = fs.find(root, detail=True)
        yield [_file(root, path, found[path]) for path in sorted(found)]
    else:
        yield from _folder_pages(fs, root, root)


def _s3_pages(fs: AbstractFileSystem, root: str) -> Iterator[list[File]]:
    bucket, _, key = root.partition("/")
    prefix = f"{key}/" if key else ""
    more: dict[str, str] = {}
    while True:
        answer = fs.call_s3("list_objects_v2", Bucket=bucket, Prefix=prefix, **more)
        yield [
            _file(root, f"{bucket}/{entry['Key']}", entry)
            for entry in answer.get("Contents", ())
            if not entry["Key"].endswith("/")
        ]
        if not answer.get("IsTruncated"):
            return
        more = {"ContinuationToken": answer["NextContinuationToken"]}


def _folder_pages(fs: AbstractFileSystem, root: str, folder: str) -> Iterator[list[File]]:
    entries = {
        str(entry["name"]).rstrip("/"): entry for entry in fs.ls(folder, detail=True, refresh=True)
    }
    is_folder = {path: entry["type"] == "directory" for path, entry in entries.items()}
    page: list[File] = []
    # With its slash a folder sorts among the files as the paths below it do.
    for path in sorted(entries, key=lambda path: f"{path}/" if is_folder[path] else path):
        if not is_folder[path]:
            page.append(_file(root, path, entries[path]))
            continue
        yield page
        page = []
        if path != folder:
            yield from _folder_pages(fs, root, path)
    yield page


def _file(root: str, path: str, info: Mapping[str, object]) -> File:
    return File(path, path[len(root) :].lstrip("/"), f"{path}:{state(info)}")


def state(info: Mapping[str, object]) -> str:
    """What a file system says of a file that changes when its content does."""
    size = info.get("size", info.get("Size"))
    stamps = ("ETag", "etag", "md5Hash", "mtime", "LastModified", "created")
    stamp = next((info[name] for name in stamps if info.get(name) is not None), None)
    return f"{size}:{stamp}"
