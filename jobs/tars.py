"""WebDataset tars: consecutive members that share a key are one sample, a picture and its tags."""

import json
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath

from fsspec import AbstractFileSystem

from engine import schema
from engine.errors import CorpusError
from jobs.columns import KEY
from jobs.listing import PICTURE_SUFFIXES, split_tags


@dataclass(frozen=True)
class SampleStart:
    """A sample's key and the byte at which its first member's header begins."""

    key: str
    offset: int


def scan_tar(fs: AbstractFileSystem, path: str) -> Iterator[SampleStart]:
    """Find the samples of a tar by its headers alone.

    Raises:
        CorpusError: it is no tar, or ends too early.
    """
    last = None
    with fs.open(path, "rb") as handle:
        try:
            with tarfile.open(fileobj=handle, mode="r:") as tar:
                for member in _members(tar):
                    key = _key(member)
                    if key is not None and key != last:
                        yield SampleStart(key, member.offset)
                        last = key
                end = tar.offset
            # tarfile takes a broken header, and the end of the file, for the end of the tar.
            handle.seek(end)
            if handle.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
                raise tarfile.ReadError(f"no end of archive at byte {end}")
        except (tarfile.TarError, EOFError) as error:
            raise CorpusError(
                f"{path}: not a tar that can be read to its end ({error}); fetch or write it again"
            ) from error


def read_samples(
    fs: AbstractFileSystem, path: str, offset: int, samples: int
) -> Iterator[dict[str, object]]:
    """Read `samples` samples from a byte offset on: `__key__`, `bytes`, both kinds of tags, JSON.

    Raises:
        CorpusError: the tar is another one than was scanned, or the JSON of a sample is broken.
    """
    parts: dict[str, bytes] = {}
    last: str | None = None
    given = 0
    with fs.open(path, "rb") as handle:
        handle.seek(offset)
        try:
            with tarfile.open(fileobj=handle, mode="r:") as tar:
                for member in _members(tar):
                    key = _key(member)
                    if key is None:
                        continue
                    if last is not None and key != last:
                        yield _sample(path, last, parts)
                        given += 1
                        parts = {}
                        if given == samples:
                            return
                    last = key
                    content = tar.extractfile(member)
                    if content is not None:
                        parts[_extension(member)] = content.read()
        except (tarfile.TarError, EOFError) as error:
            raise CorpusError(
                f"{path}: cannot be read from byte {offset} on ({error}); do not change the input "
                "of a running job"
            ) from error
    if last is not None:
        yield _sample(path, last, parts)


def _members(tar: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """The members one by one; tarfile itself would keep every one that it has met."""
    while (member := tar.next()) is not None:
        yield member
        tar.members.clear()  # type: ignore[attr-defined]


def _key(member: tarfile.TarInfo) -> str | None:
    """A member's path up to the first dot of its name, as WebDataset has it."""
    path = PurePosixPath(member.name)
    if not member.isfile() or path.name.startswith("."):
        return None
    return str(path.parent / path.name.partition(".")[0])


def _extension(member: tarfile.TarInfo) -> str:
    return PurePosixPath(member.name).name.partition(".")[2].lower()


def _sample(path: str, key: str, parts: dict[str, bytes]) -> dict[str, object]:
    # Of `1.seg.png` and `1.jpg` the latter is the picture.
    pictures = sorted(
        (extension.count("."), place, data)
        for place, (extension, data) in enumerate(parts.items())
        if f".{extension.rpartition('.')[2]}" in PICTURE_SUFFIXES
    )
    sample: dict[str, object] = {KEY: key, schema.BYTES: pictures[0][2] if pictures else None}
    if "json" in parts:
        try:
            record = json.loads(parts["json"])
        except ValueError as error:
            raise CorpusError(
                f"{path}: {key}.json is not JSON ({error}); mend that member, or take it out"
            ) from error
        if isinstance(record, dict):
            sample["json"] = json.dumps(record, ensure_ascii=False)
            for field in (schema.TAGS, schema.SOCIAL_TAGS):
                tags = _tags_of_json(record, field)
                if tags is not None:
                    sample[field] = tags
    if "txt" in parts and schema.TAGS not in sample:
        sample[schema.TAGS] = _tags_of_text(parts["txt"].decode("utf-8", "replace"))
    return sample


def _tags_of_json(record: dict[str, object], field: str) -> list[str] | None:
    tags = record.get(field)
    if isinstance(tags, list):
        return [str(tag) for tag in tags]
    if isinstance(tags, str):
        return _tags_of_text(tags)
    return None


def _tags_of_text(text: str) -> list[str]:
    """Tags separated by new lines, '|', ';' or ','; else the words of a caption.

    Of a caption the words without meaning of their own, and the punctuation, are left out.
    """
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if len(lines) > 1:
        return lines
    tags = split_tags(text)
    if len(tags) > 1:
        return tags
    # Here, not above: the import takes a second, which few tars have use for.
    from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

    words = ["".join(c for c in word if c.isalnum() or c in "-'") for word in text.split()]
    return [word for word in words if word and word.lower() not in ENGLISH_STOP_WORDS]
