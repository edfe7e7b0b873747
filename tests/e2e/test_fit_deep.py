"""`tagloom fit` of annotators that learn by gradient descent, from pixels too, end to end."""

import json
from pathlib import Path

import pyarrow.parquet as pq

from engine.bundle import load_bundle


def test_a_network_of_its_own_is_fitted_in_a_bundle_and_tags(
    tagloom, corpus_folder: Path, tmp_path: Path
) -> None:
    """Every layer from the pixels, tags that no picture carries, and the bundle used."""
    bundle = tmp_path / "bundle"
    annotator = (
        'annotators={tuned={kind="cnn-r",train="all",tag_vectors="binary",decorrelate="no",'
        "optimisation={epochs=1,batch=16}}}"
    )
    sets = [
        "embed.backbone=random",
        "embed.compute=openvino",
        "refit=false",
        'vocabulary.more_tags=["unicorn"]',
        "training.workers=1",
        annotator,
    ]
    options = [word for one in sets for word in ("--set", one)]
    fitted = tagloom("fit", "--corpus", corpus_folder, "--out", bundle, *options)
    assert fitted.code == 0, fitted.err
    assert "'cnn-r' was trained by 1 worker(s) over gloo" in fitted.err
    vocabulary = load_bundle(bundle).vocabulary
    assert (vocabulary.tags[-1], vocabulary.counts[-1]) == ("unicorn", 0)
    files = {path.name for path in (bundle / "annotators" / "tuned").iterdir()}
    assert files == {"cnn_r.json", "network.safetensors", "tags.safetensors"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bundle"]
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
    tagloom, corpus_folder: Path, tmp_path: Path
) -> None:
    sets = ["training.workers=64", 'annotators={head={kind="cnn-r"}}']
    options = [word for one in sets for word in ("--set", one)]
    run = tagloom("fit", "--corpus", corpus_folder, "--out", tmp_path / "bundle", *options)
    assert run.code == 1
    assert "training.workers is 64, but there are 2 CPUs" in run.err
    assert "listing" not in run.err
    assert "embedding" not in run.err
    assert list(tmp_path.iterdir()) == []
