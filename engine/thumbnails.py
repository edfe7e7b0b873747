"""Small pictures of the training images, kept in the bundle as evidence that can be looked at."""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

SIDE = 96
"""Longer side in pixels."""

MOST = 100_000
"""Pictures above which a bundle keeps none: they would outweigh the models."""


def save_thumbnails(folder: Path, jpegs: Mapping[str, bytes]) -> None:
    """Write JPEGs by image id into an existing folder."""
    lengths = np.array([0, *(len(data) for data in jpegs.values())], dtype=np.int64)
    data = np.frombuffer(b"".join(jpegs.values()), dtype=np.uint8)
    save_file({"data": data, "offsets": np.cumsum(lengths)}, folder / "thumbnails.safetensors")
    (folder / "ids.json").write_text(json.dumps(list(jpegs)), encoding="utf-8")


class Thumbnails:
    """Reads thumbnails one at a time; the file stays on disk."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "thumbnails.safetensors"
        self._rows: dict[str, int] = {}
        if self._path.exists():
            ids = json.loads((folder / "ids.json").read_text(encoding="utf-8"))
            self._rows = {image_id: row for row, image_id in enumerate(ids)}

    def __bool__(self) -> bool:
        """Whether the bundle keeps any."""
        return bool(self._rows)

    def all(self) -> dict[str, bytes]:
        """Every JPEG by image id; empty where the bundle keeps none."""
        if not self._rows:
            return {}
        arrays = load_file(self._path)
        data, offsets = arrays["data"], arrays["offsets"]
        return {
            image_id: data[offsets[row] : offsets[row + 1]].tobytes()
            for image_id, row in self._rows.items()
        }

    def get(self, image_id: str) -> bytes | None:
        """The JPEG of a training picture, or None where the bundle has none of it."""
        row = self._rows.get(image_id)
        if row is None:
            return None
        with safe_open(self._path, framework="numpy") as file:
            start, end = file.get_slice("offsets")[row : row + 2]
            jpeg: bytes = file.get_slice("data")[int(start) : int(end)].tobytes()
            return jpeg
