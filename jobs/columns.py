"""Which column of a row is what: the id, the picture, and what belongs to the caller."""

from collections.abc import Callable
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import types

from engine import schema
from engine.errors import CorpusError

IMAGE = "image"
"""A Hugging Face picture: a struct of `bytes` and `path`; or the bytes themselves."""

KEY = "__key__"
"""A sample's key in a WebDataset tar."""

ID_COLUMNS = (
    schema.IMAGE_ID,
    "id",
    "key",
    KEY,
    "url",
    "file",
    "file_name",
    "filename",
    schema.URI,
)
"""Columns of a Parquet file that are taken for the caller's id, the first that is there."""

_INPUT = "input_"
_IMAGE_PATH = "image_path"
_ENGINE = frozenset({*schema.RESERVED, schema.IMAGE_ID, schema.BYTES})
_ENGINE_PREFIXES = (
    schema.score_column(""),
    schema.evidence_column(""),
    "maps/",
    "__chunk",
    "__row",
)


@dataclass(frozen=True)
class Roles:
    """Names of the columns with a meaning; '' where there is none.

    Attributes:
        data: the picture's bytes.
        image: a struct of the picture's bytes and path.
        uri: where the picture is.
        image_id: the caller's id.
    """

    data: str = ""
    image: str = ""
    uri: str = ""
    image_id: str = ""


LISTING_ROLES = Roles(uri=schema.URI, image_id=schema.IMAGE_ID)
TAR_ROLES = Roles(data=schema.BYTES, image_id=KEY)


def parquet_roles(path: str, columns: pa.Schema) -> Roles:
    """Find the columns of a Parquet file by name and type.

    Raises:
        CorpusError: none of them holds pictures.
    """
    kinds = dict(zip(columns.names, columns.types, strict=True))

    def has(name: str, *is_fit: Callable[[pa.DataType], bool]) -> bool:
        return name in kinds and any(fits(kinds[name]) for fits in is_fit)

    data = next((name for name in (schema.BYTES, IMAGE) if has(name, *_BINARY)), "")
    image = IMAGE if has(IMAGE, _is_picture_struct) and not data else ""
    uri = schema.URI if has(schema.URI, *_STRING) else ""
    if not (data or image or uri):
        found = ", ".join(f"{name} ({kind})" for name, kind in kinds.items()) or "no columns"
        raise CorpusError(
            f"{path}: no column with pictures; expected `bytes` (binary), `image` (a struct of "
            f"bytes and path) or `uri` (strings), found {found[:300]}"
        )
    named = (name for name in ID_COLUMNS if has(name, *_STRING, types.is_integer))
    return Roles(data, image, uri, next(named, ""))


_BINARY = (types.is_binary, types.is_large_binary, types.is_binary_view)
_STRING = (types.is_string, types.is_large_string, types.is_string_view, types.is_dictionary)


def _is_picture_struct(kind: pa.DataType) -> bool:
    return bool(types.is_struct(kind) and {f.name for f in kind} & {"bytes", "path"})


def check_tagged(path: str, columns: pa.Schema) -> None:
    """See that `tags` are there to learn from or to compare with, and lists of strings.

    Raises:
        CorpusError: they are not.
    """
    kind = columns.field(schema.TAGS).type if schema.TAGS in columns.names else pa.null()
    is_list = types.is_list(kind) or types.is_large_list(kind)
    # Arrow's type of tags that are null or empty in every row.
    if types.is_null(kind) or (is_list and types.is_null(kind.value_type)):
        raise CorpusError(
            f"{path}: there are pictures but no `tags` with them; give each picture its tags (see "
            "the README, 'Corpora that go in')"
        )
    if not (is_list and any(fits(kind.value_type) for fits in _STRING)):
        raise CorpusError(
            f"{path}: `tags` is of type {kind}; expected a list of strings, such as ['sky', 'sea']"
        )


def check_social_tags(path: str, columns: pa.Schema) -> None:
    """See that `social_tags`, if they are there, are lists of strings.

    Raises:
        CorpusError: they are not.
    """
    if schema.SOCIAL_TAGS not in columns.names:
        return
    kind = columns.field(schema.SOCIAL_TAGS).type
    is_list = types.is_list(kind) or types.is_large_list(kind)
    if types.is_null(kind) or (
        is_list and any(fits(kind.value_type) for fits in (*_STRING, types.is_null))
    ):
        return
    raise CorpusError(
        f"{path}: `social_tags` is of type {kind}; expected a list of strings, such as "
        "['holiday', 'sea'], or no such column"
    )


def social_lists(rows: pa.Table) -> list[tuple[str, ...]]:
    """What users called each picture; nothing, where the input does not say."""
    if schema.SOCIAL_TAGS not in rows.column_names:
        return [()] * rows.num_rows
    given = rows.column(schema.SOCIAL_TAGS).to_pylist()
    return [tuple(filter(None, words or ())) for words in given]


def row_ids(rows: pa.Table, roles: Roles, label: str, first: int) -> pa.Array:
    """The rows' ids as strings.

    Args:
        label: a row that has no id of its own, or a null one, is called `label:number`.
        first: number of the first row.
    """
    numbers = range(first, first + rows.num_rows)
    own = pa.array([f"{label}:{number}" for number in numbers], pa.string())
    if not roles.image_id:
        return own
    given = rows.column(roles.image_id).combine_chunks().cast(pa.string())
    return given if given.null_count == 0 else pc.coalesce(given, own)


def callers_columns(rows: pa.Table, roles: Roles) -> dict[str, pa.ChunkedArray]:
    """The columns that ride along; one of a name that the engine writes as `input_<name>`.

    The bytes of the pictures are left out. Of a struct of bytes and path, the path stays, as
    `image_path`.
    """
    names = set(rows.column_names)
    kept: dict[str, pa.ChunkedArray] = {}
    for name in rows.column_names:
        column = rows.column(name)
        if name == roles.data or (name == schema.IMAGE_ID and name == roles.image_id):
            continue
        if name != roles.image:
            kept[_free(name, names)] = column
        elif "path" in [field.name for field in column.type]:
            name = _IMAGE_PATH if _IMAGE_PATH not in names else f"{_INPUT}{_IMAGE_PATH}"
            kept[name] = pc.struct_field(column, "path")
    return kept


def _free(name: str, names: set[str]) -> str:
    """`name`, one `input_` longer if it or what it stands for would meet a column of ours."""
    plain = name
    while plain.startswith(_INPUT):
        plain = plain.removeprefix(_INPUT)
    is_ours = plain in _ENGINE or plain.startswith(_ENGINE_PREFIXES)
    return _INPUT + name if is_ours and plain in names else name
