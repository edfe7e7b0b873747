"""A fit whose driver is killed while a network learns: the same command goes on from its epochs."""

import re
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil

from engine.bundle import load_bundle
from tests.conftest import Tagloom
from tests.gates import PATIENCE

EPOCHS = 24
NETWORK = (
    '{kind="cnn-r",tag_vectors="binary",decorrelate="no",'
    f"optimisation={{epochs={EPOCHS},batch=64}}}}"
)


def test_a_killed_fit_goes_on_from_its_last_epoch_to_the_same_bundle(
    tagloom: Tagloom, corpus_folder: Path, tmp_path: Path
) -> None:
    settings = (
        *("embed.backbone=random", "embed.compute=openvino", "refit=false", "training.workers=1"),
        f"annotators={{network={NETWORK}}}",
    )
    options = [word for one in settings for word in ("--set", one)]

    def command(name: str) -> tuple[str, ...]:
        return ("fit", "--corpus", str(corpus_folder), "--out", str(tmp_path / name), *options)

    job = subprocess.Popen(
        [sys.executable, "-m", "jobs", *command("killed")],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    group: list[psutil.Process] = []
    place = tmp_path / "killed.unfinished"
    try:
        deadline = time.monotonic() + PATIENCE
        while not list(place.glob("training-*/run/epoch-00000[3-9]")):
            assert time.monotonic() < deadline
            assert job.poll() is None, job.communicate()
            time.sleep(0.02)
        group = psutil.Process(job.pid).children(recursive=True)
    finally:
        for process in (job, *group):
            with suppress(psutil.NoSuchProcess):
                process.kill()
        job.communicate()
    before = {path: path.stat().st_mtime_ns for path in place.glob("part-*.parquet")}
    assert before
    assert not (tmp_path / "killed").exists()

    again = tagloom(*command("killed"))
    assert again.code == 0, again.err
    epochs = [int(one) for one in re.findall(r"'cnn-r', epoch (\d+) of", again.err)]
    assert epochs
    assert min(epochs) > 3
    assert "embedding: 150 done" in again.err
    left = tagloom(*command("alone"))
    assert left.code == 0, left.err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["alone", "killed"]
    assert load_bundle(tmp_path / "killed").id == load_bundle(tmp_path / "alone").id
