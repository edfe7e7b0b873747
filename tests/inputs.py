"""What tests of inputs share: writing folders and tars, and reading an inventory back as rows."""

import io
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from jobs.chunks import Chunk, Inventory
from jobs.reading import read_chunk
from jobs.source import take_inventory
from jobs.store import Store

PICTURES = {f"{number}.jpg": f"picture {number}".encode() for number in range(5)}


def inventory_of(source: Path | str, work: Path, is_corpus: bool = False) -> Inventory:
    return take_inventory(str(source), Store(str(work / "work")), is_corpus)


def rows_of(inventory: Inventory, batch: int = 32) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    for chunk in inventory.chunks:
        assert Chunk.from_json(chunk.to_json()) == chunk
        tables = list(read_chunk(chunk, batch, 10_000))
        assert all(table.schema == tables[0].schema for table in tables)
        rows.extend(row for table in tables for row in table.to_pylist())
    return rows


def write_files(root: Path, files: Mapping[str, bytes | str]) -> Path:
    for name, data in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data.encode() if isinstance(data, str) else data)
    return root


def write_tar(path: Path, members: Mapping[str, bytes]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))


def column(rows: Sequence[Mapping[str, object]], name: str) -> list[object]:
    return [row[name] for row in rows]
