"""The ways of embedding a folder of pictures that `benchmarks/annotate.py` compares with ours.

    python -m benchmarks.ways WAY FOLDER BUNDLE EVENTS

All but `limit` take the same float32 torch network, decode with Pillow as one would write it, and
resize to the bundle's geometry. Nothing is scored or written: that is to the peers' advantage.
Imports are inside, for Daft's environment has another pyarrow and the others have no Daft.
"""

import io
import json
import multiprocessing
import os
import sys
from collections.abc import Callable, Iterator
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.events import note

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from engine.geometry import Geometry

BATCH = 32
PROCESSES = 2


class Torch:
    """The peers' model: torch in float32 on channels_last memory, behind Pillow's decoding."""

    def __init__(self, bundle: Path, threads: int) -> None:
        from engine.embed import backbone
        from engine.embed.eager import load_network

        self.geometry, name = entry(bundle)
        self.run = load_network(backbone(name), False, threads)

    def __call__(self, paths: list[str]) -> "NDArray[np.float32]":
        import numpy as np

        return self.run(np.stack([pixels_of(path, self.geometry) for path in paths]))


def entry(bundle: Path) -> "tuple[Geometry, str]":
    """Geometry and name of a bundle's backbone, without what Daft's environment lacks."""
    from engine.geometry import Geometry

    told = json.loads((bundle / "manifest.json").read_text(encoding="utf-8"))["backbone"]
    return Geometry(**told["geometry"]), told["name"]


def pixels_of(path: str, geometry: "Geometry") -> "NDArray[np.uint8]":
    """A picture's square, by Pillow."""
    import numpy as np
    from PIL import Image

    from engine.geometry import fit_to

    with Image.open(io.BytesIO(Path(path).read_bytes())) as image:
        return fit_to(np.array(image.convert("RGB")), geometry)


def batches(paths: list[str]) -> Iterator[list[str]]:
    for start in range(0, len(paths), BATCH):
        yield paths[start : start + BATCH]


def loop(paths: list[str], bundle: Path, events: Path, threads: int) -> None:
    """The loop that one writes first."""
    model = Torch(bundle, threads)
    for batch in batches(paths):
        model(batch)
        note(events, len(batch))


def loop_one_thread(paths: list[str], bundle: Path, events: Path) -> None:
    loop(paths, bundle, events, 1)


def loop_two_threads(paths: list[str], bundle: Path, events: Path) -> None:
    loop(paths, bundle, events, 2)


def dataloader(paths: list[str], bundle: Path, events: Path) -> None:
    """torch's DataLoader: two processes decode, this one computes with two threads."""
    from torch.utils.data import DataLoader

    model = Torch(bundle, 2)
    pictures = Pictures(paths, model.geometry)
    for batch in DataLoader(pictures, batch_size=BATCH, num_workers=PROCESSES):
        model.run(batch.numpy())
        note(events, len(batch))


class Pictures:
    """A map-style data set of pixels."""

    def __init__(self, paths: list[str], geometry: "Geometry") -> None:
        self.paths, self.geometry = paths, geometry

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, place: int) -> "NDArray[np.uint8]":
        return pixels_of(self.paths[place], self.geometry)


def daft(paths: list[str], bundle: Path, events: Path) -> None:
    """`daft.cls`: two processes with one thread each."""
    import daft as framework

    class Embed:
        def __init__(self) -> None:
            self.model = Torch(bundle, 1)

        @framework.method.batch(return_dtype=framework.DataType.python(), batch_size=BATCH)
        def __call__(self, column: "framework.Series") -> list[object]:
            found = self.model(column.to_pylist())
            note(events, len(found))
            return list(found)

    embed = framework.cls(Embed, max_concurrency=PROCESSES, use_process=True)()
    table = framework.from_pydict({"path": paths})
    table.select(embed(table["path"])).collect()


def datasets(paths: list[str], bundle: Path, events: Path) -> None:
    """Hugging Face `datasets.map` with two processes of one thread each."""
    import datasets as framework

    framework.disable_caching()
    framework.disable_progress_bars()
    table = framework.Dataset.from_dict({"path": paths})
    table.map(
        embed_rows,
        batched=True,
        batch_size=BATCH,
        num_proc=PROCESSES,
        fn_kwargs={"bundle": str(bundle), "events": str(events)},
        remove_columns=["path"],
    )


_MODELS: dict[str, Torch] = {}


def embed_rows(rows: dict[str, list[str]], bundle: str, events: str) -> dict[str, object]:
    if bundle not in _MODELS:
        _MODELS[bundle] = Torch(Path(bundle), 1)
    found = _MODELS[bundle](rows["path"])
    note(Path(events), len(found))
    return {"embedding": found}


def limit(paths: list[str], bundle: Path, events: Path) -> None:
    """Decode, resize and embed as our job does, a process a core, and nothing else."""
    context = multiprocessing.get_context("spawn")
    ready = context.Barrier(PROCESSES)
    parts = [paths[place::PROCESSES] for place in range(PROCESSES)]
    crew = [
        context.Process(target=limit_of_one, args=(part, bundle, events, ready)) for part in parts
    ]
    for process in crew:
        process.start()
    for process in crew:
        process.join()
        assert process.exitcode == 0


def limit_of_one(paths: list[str], bundle: Path, events: Path, ready: Barrier) -> None:
    import pyarrow as pa
    from threadpoolctl import threadpool_limits

    from engine import schema
    from engine.bundle import load_bundle
    from engine.plan import annotation_plan

    threadpool_limits(1)
    plan = annotation_plan(load_bundle(bundle), 5).toward((schema.EMBEDDING,))
    decode, embed = plan.workers().made
    tables = [
        pa.table({schema.BYTES: pa.array([Path(path).read_bytes() for path in batch])})
        for batch in batches(paths)
    ]
    embed(decode(tables[0]))
    ready.wait()
    for table in tables:
        embed(decode(table))
        note(events, table.num_rows)


WAYS: dict[str, Callable[[list[str], Path, Path], None]] = {
    "loop, 1 thread": loop_one_thread,
    "loop, 2 threads": loop_two_threads,
    "DataLoader": dataloader,
    "Daft": daft,
    "datasets.map": datasets,
    "limit": limit,
}

ONE_PROCESS = ("loop, 1 thread", "loop, 2 threads", "DataLoader")
"""The ways whose outputs come from one process, whatever helps it."""

if __name__ == "__main__":
    way, folder, bundle_folder, events_file = sys.argv[1:]
    # Before torch and OpenBLAS are loaded; torch's own threads are set by each way.
    os.environ.setdefault("OMP_NUM_THREADS", "1" if way != "loop, 2 threads" else "2")
    files = sorted(str(path) for path in Path(folder).iterdir())
    WAYS[way](files, Path(bundle_folder), Path(events_file))
