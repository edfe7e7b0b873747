"""A disk that is full: a clear end that leaves no half file, and the same command goes on later."""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.clusters import parts
from tests.conftest import Tagloom

ROOM = 48 * 1024


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one megabyte."""
    place = tmp_path / "disk"
    place.mkdir()
    if os.geteuid() != 0:
        pytest.skip("only root may mount a small file system")
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)]
    mounted = subprocess.run(command, capture_output=True, text=True, check=False)
    if mounted.returncode:
        pytest.skip(f"no small file system can be mounted here: {mounted.stderr.strip()}")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def _fill(disk: Path, left: int) -> Path:
    """A file that leaves so many bytes."""
    status = os.statvfs(disk)
    filler = disk / "filler"
    filler.write_bytes(bytes(status.f_bavail * status.f_frsize - left))
    return filler


def _annotate(tagloom: Tagloom, source: Path, bundle: Path, output: Path) -> tuple[int, str, str]:
    outcome = tagloom(
        "annotate", "--input", source, "--bundle", bundle, "--output", output, "--workers", 1
    )
    return outcome.code, outcome.out, outcome.err


def test_a_full_disk_is_told_and_the_job_goes_on_when_there_is_room(
    disk: Path, tagloom: Tagloom, corpus_folder: Path, bundle_folder: Path
) -> None:
    output = disk / "out"
    filler = _fill(disk, 0)
    code, _, err = _annotate(tagloom, corpus_folder, bundle_folder, output)
    assert code == 1
    assert "No space left on device" in err
    assert {path.name for path in disk.iterdir()} == {"filler"}

    filler.unlink()
    filler = _fill(disk, ROOM)
    code, _, err = _annotate(tagloom, corpus_folder, bundle_folder, output)
    assert code == 1
    assert f"error: {output}: cannot be written ([Errno 28] No space left on device" in err
    assert "with room left in it" in err
    before = {part: part.stat().st_mtime_ns for part in parts(output)}
    left = {path.name for path in output.iterdir()} - {part.name for part in before}
    assert left <= {"job.json", "_job"}

    filler.unlink()
    code, out, err = _annotate(tagloom, corpus_folder, bundle_folder, output)
    assert code == 0, err
    assert json.loads(out)["rows"] == 150
    assert {part: part.stat().st_mtime_ns for part in before} == before
