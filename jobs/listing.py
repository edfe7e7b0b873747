"""Input that names picture files: annotations.jsonl or .csv beside them.

They become an Arrow file, the listing: a row a picture with `image_id`, `uri` and the caller's
columns. Its rows are what chunks point at.
"""

import csv
import json
import posixpath
from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath

import pyarrow as pa
import pyarrow.parquet as pq
from fsspec import AbstractFileSystem

from engine import schema
from engine.errors import CorpusError
from jobs.store import address

ANNOTATIONS = ("annotations.jsonl", "annotations.csv")

_DECODED = {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff"}
_OTHERS = {".heic", ".heif", ".avif", ".jp2", ".psd", ".ico", ".svg", ".dng", ".cr2", ".nef"}
PICTURE_SUFFIXES = frozenset(_DECODED | _OTHERS)
"""Files that a folder's listing takes for pictures; what cannot be decoded gets its code."""

_ID_FIELDS = ("image_id", "id")
_FILE_FIELDS = ("file", "file_name", "filename", "image", "path")
_SEPARATORS = ("|", ";", ",")


def list_annotations(fs: AbstractFileSystem, path: str, must_exist: bool) -> pa.Table:
    """List the pictures that an annotations file names.

    Every line has `file`, a URL or a path relative to the annotations file, and where it is
    tagged `tags`: a list in JSON, in CSV separated by '|', ';' or ','. The id is `image_id`, or
    `id`, or else `file`. Other fields ride along.

    Args:
        must_exist: whether a picture that is not there is an error now; otherwise its row gets
            one when it is read.

    Raises:
        CorpusError: a line that cannot be read, or lacks its file, or names a missing picture.
    """
    root = PurePosixPath(path).parent
    read = _json_lines if path.endswith(".jsonl") else _csv_rows
    records = list(read(fs, path))
    if not records:
        raise CorpusError(f"{path}: has no lines; write one a picture")
    there = frozenset(fs.find(str(root))) if must_exist else frozenset()
    ids: list[str] = []
    uris: list[str] = []
    for where, record in records:
        file = _first(record, _FILE_FIELDS)
        if not isinstance(file, str) or not file:
            raise CorpusError(
                f"{path}, {where}: no `file` in it; give the picture's path relative to {root}"
            )
        image_id = _first(record, _ID_FIELDS)
        ids.append(file if image_id is None else str(image_id))
        if "://" in file:
            uris.append(file)
            continue
        uri = posixpath.normpath(str(root / file))
        # A link, or what lies outside the folder, is not among what `find` gives.
        if must_exist and uri not in there and not fs.isfile(uri):
            raise CorpusError(
                f"{path}, {where}: the picture {uri} is not there; put it there, or take the "
                "line out"
            )
        uris.append(address(fs, uri))
    columns = {
        schema.IMAGE_ID: _column(path, schema.IMAGE_ID, ids),
        schema.URI: _column(path, schema.URI, uris),
    }
    for name in dict.fromkeys(name for _, record in records for name in record):
        values = [record.get(name) for _, record in records]
        if name == schema.URI:
            columns[f"input_{name}"] = _column(path, name, values)
        elif name != schema.IMAGE_ID:
            columns[name] = _column(path, name, values)
    return pa.table(columns)


def _first(record: dict[str, object], names: Sequence[str]) -> object:
    return next((record[name] for name in names if record.get(name) is not None), None)


def _column(path: str, name: str, values: Sequence[object]) -> pa.Array:
    try:
        column = pa.array(values)
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        kinds = sorted({type(value).__name__ for value in values if value is not None})
        raise CorpusError(
            f"{path}: the field `{name}` is of several kinds ({', '.join(kinds)}); write it the "
            "same way on every line"
        ) from error
    except (OverflowError, UnicodeError) as error:
        raise CorpusError(
            f"{path}: the field `{name}` holds what no table can ({error}); write whole numbers "
            "in 64 bits, and text in Unicode"
        ) from error
    try:
        pq.write_table(pa.table({name: column[:0]}), pa.BufferOutputStream())
    except pa.ArrowNotImplementedError:
        # Such as {}, which Parquet has no type for.
        return pa.array([None if value is None else json.dumps(value) for value in values])
    return column


def _json_lines(fs: AbstractFileSystem, path: str) -> Iterator[tuple[str, dict[str, object]]]:
    with fs.open(path, "rb") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            where = f"line {number}"
            try:
                record = json.loads(line)
            except ValueError as error:
                raise CorpusError(
                    f"{path}, {where}: not JSON ({error}); mend the line or take it out"
                ) from error
            if not isinstance(record, dict):
                raise CorpusError(
                    f"{path}, {where}: found {type(record).__name__}, expected an object such as "
                    '{"file": "images/1.jpg", "tags": ["sky"]}'
                )
            for field in (schema.TAGS, schema.SOCIAL_TAGS):
                _check_tags(path, where, field, record)
            yield where, record


def _check_tags(path: str, where: str, field: str, record: dict[str, object]) -> None:
    tags = record.get(field)
    if tags is None:
        return
    if not isinstance(tags, list) or not all(isinstance(tag, str) for tag in tags):
        raise CorpusError(
            f"{path}, {where}: `{field}` is {str(tags)[:60]!r}, expected a list of strings"
        )


def _csv_rows(fs: AbstractFileSystem, path: str) -> Iterator[tuple[str, dict[str, object]]]:
    with fs.open(path, "r", encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file)
        try:
            for row in reader:
                where = f"line {reader.line_num}"
                if None in row or None in row.values():
                    raise CorpusError(
                        f"{path}, {where}: has another number of columns than the header; put "
                        "cells that hold a comma into quotes"
                    )
                record: dict[str, object] = dict(row)
                for field in (schema.TAGS, schema.SOCIAL_TAGS):
                    if field in row:
                        record[field] = split_tags(row[field])
                yield where, record
        except (csv.Error, UnicodeDecodeError) as error:
            raise CorpusError(f"{path}: not CSV in UTF-8 ({error}); save it as such") from error


def split_tags(text: str) -> list[str]:
    """Tags of one cell: separated by '|', else ';', else ',', else one tag."""
    separator = next((mark for mark in _SEPARATORS if mark in text), None)
    parts = text.split(separator) if separator else [text]
    return [part.strip() for part in parts if part.strip()]
