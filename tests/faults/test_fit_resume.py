"""`tagloom fit` of a network of its own, killed while that learns: it goes on, and then tags."""

import json
import re
import time
from pathlib import Path

import pyarrow.parquet as pq

from engine.bundle import load_bundle
from tests.conftest import Tagloom
from tests.gates import PATIENCE
from tests.victims import victim

EPOCHS = 5
NETWORK = (
    '{kind="cnn-r",train="all",tag_vectors="binary",decorrelate="no",'
    f"optimisation={{epochs={EPOCHS},batch=16}}}}"
)
SETTINGS = (
    *("embed.backbone=random", "embed.compute=openvino", "refit=false", "training.workers=1"),
    *('vocabulary.more_tags=["unicorn"]', f"annotators={{tuned={NETWORK}}}"),
)


def kill_while_it_learns(command: list[str], place: Path) -> None:
    """Run a fit until two epochs are done, and kill it with all that it started."""
    with victim(command) as job:
        deadline = time.monotonic() + PATIENCE
        while not list(place.glob("training-*/run/epoch-000002")):
            assert time.monotonic() < deadline
            assert job.process.poll() is None, job.process.communicate()
            time.sleep(0.02)
        job.look()


def test_a_killed_fit_goes_on_from_its_last_epoch_and_its_bundle_tags(
    tagloom: Tagloom, corpus_folder: Path, tmp_path: Path
) -> None:
    """Every layer from the pixels, tags that no picture carries, and the bundle used."""
    bundle, place = tmp_path / "bundle", tmp_path / "bundle.unfinished"
    command = ["fit", "--corpus", str(corpus_folder), "--out", str(bundle)]
    command += [word for one in SETTINGS for word in ("--set", one)]
    kill_while_it_learns(command, place)
    assert list(place.glob("part-*.parquet"))
    assert not bundle.exists()
    refused = tagloom(*command, "--set", "embed.flip=true")
    assert refused.code == 1
    assert "by other settings of how pictures are embedded" in refused.err

    fitted = tagloom(*command)
    assert fitted.code == 0, fitted.err
    epochs = [int(one) for one in re.findall(r"'cnn-r', epoch (\d+) of", fitted.err)]
    assert 2 < min(epochs) <= max(epochs) == EPOCHS
    assert "'cnn-r' was trained by 1 worker(s) over gloo" in fitted.err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bundle"]
    vocabulary = load_bundle(bundle).vocabulary
    assert (vocabulary.tags[-1], vocabulary.counts[-1]) == ("unicorn", 0)
    files = {path.name for path in (bundle / "annotators" / "tuned").iterdir()}
    assert files == {"cnn_r.json", "network.safetensors", "tags.safetensors"}

    out = tmp_path / "out"
    source = corpus_folder / "images"
    tagged = tagloom("annotate", "--input", source, "--bundle", bundle, "--output", out)
    assert tagged.code == 0, tagged.err
    account = json.loads(tagged.out)
    assert (account["rows"], account["failed"]) == (150, 0)
    rows = [row for part in sorted(out.glob("part-*")) for row in pq.read_table(part).to_pylist()]
    assert all(len(row["tags"]) == 5 for row in rows)
    assert len({row["tags"][0]["tag"] for row in rows}) > 1


def test_too_many_workers_are_refused_before_a_picture_is_read(
    tagloom: Tagloom, corpus_folder: Path, tmp_path: Path
) -> None:
    sets = ["training.workers=64", 'annotators={head={kind="cnn-r"}}']
    options = [word for one in sets for word in ("--set", one)]
    run = tagloom("fit", "--corpus", corpus_folder, "--out", tmp_path / "bundle", *options)
    assert run.code == 1
    assert "training.workers is 64, but there are 2 CPUs" in run.err
    assert "listing" not in run.err
    assert "embedding" not in run.err
    assert list(tmp_path.iterdir()) == []
