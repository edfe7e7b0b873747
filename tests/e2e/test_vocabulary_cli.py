"""`annotate --vocabulary`: a bundle obeys rules without being fitted again, or refuses them."""

import hashlib
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from engine.bundle import Bundle, load_bundle
from engine.sample import SamplePicture
from tests.vocabularies import RULES, by_rules, without_rules

REFUSED = {
    "[aliases]\nsea = 'lake'\nlake = 'sea'": "aliases: sea -> lake -> sea goes round in a circle",
    "[implied]\nboat = 'ship'\nship = ['sea', 'boat']": "implied: boat -> ship -> boat goes round",
    "exclude = ['car', 'nsfw*']": "exclude: 'nsfw*' matches no tag of the bundle",
    "[groups]\npets = ['dog', 'hamster']": "groups.pets: 'hamster' matches no tag of the bundle",
    "[aliases]\nautomobile = 'car'": "aliases: 'automobile' matches no tag of the bundle",
    "[implied]\ndog = 'animal'": "implied: 'animal' matches no tag of the bundle",
    "include = ['car']\nexclude = ['c*']": "the rules leave none of the bundle's tags",
    "exlude = ['car']": "exlude: ",
}


@pytest.fixture(scope="module")
def bundle(bundle_folder: Path) -> Bundle:
    return load_bundle(bundle_folder)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory, pictures: list[SamplePicture]) -> Path:
    path = tmp_path_factory.mktemp("vocabulary") / "in.parquet"
    few = pictures[:24]
    columns = {"id": [one.image_id for one in few], "bytes": [one.jpeg for one in few]}
    pq.write_table(pa.table(columns), path)
    return path


@pytest.fixture(scope="module")
def everything(bundle: Bundle, pictures: list[SamplePicture]) -> list[dict[str, float]]:
    return without_rules(bundle, pictures[:24])


def _digests(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_rules_are_obeyed_and_the_bundle_stays_as_it_is(
    tagloom, bundle: Bundle, source: Path, everything: list[dict[str, float]], tmp_path: Path
) -> None:
    before = _digests(bundle.folder)
    rules = tmp_path / "rules.toml"
    rules.write_text(RULES, encoding="utf-8")
    output = tmp_path / "out"
    command = ("annotate", "--input", source, "--bundle", bundle.folder, "--output", output)

    run = tagloom(*command, "--vocabulary", rules, "--top-k", 4, "--workers", 1, "--quiet")
    assert run.code == 0, run.err
    assert json.loads(run.out)["bundle_id"] == bundle.id
    assert _digests(bundle.folder) == before

    rows = [
        row
        for part in sorted(output.glob("part-*.parquet"))
        for row in pq.read_table(part).to_pylist()
    ]
    assert len(rows) == len(everything)
    for row, scores in zip(rows, everything, strict=True):
        raised = by_rules(scores)
        given = {one["tag"]: one["score"] for one in row["tags"]}
        assert list(given.values()) == sorted(given.values(), reverse=True)
        assert given == pytest.approx({tag: raised[tag] for tag in given}, abs=1e-6)
        assert sorted(given.values()) == pytest.approx(sorted(raised.values())[-4:], abs=1e-6)

    rules.write_text(RULES.replace('"house", ', ""), encoding="utf-8")
    same = tagloom(*command, "--vocabulary", rules, "--top-k", 4, "--workers", 1)
    assert same.code == 1
    assert "holds the output of a different job (vocabulary" in same.err


@pytest.mark.parametrize(("text", "message"), REFUSED.items())
def test_rules_that_cannot_be_obeyed_are_refused_by_name(
    tagloom, bundle_folder: Path, source: Path, tmp_path: Path, text: str, message: str
) -> None:
    rules, output = tmp_path / "rules.toml", tmp_path / "out"
    rules.write_text(text, encoding="utf-8")
    run = tagloom(
        *("annotate", "--input", source, "--bundle", bundle_folder, "--output", output),
        *("--vocabulary", rules, "--workers", 1),
    )
    assert run.code == 1
    assert message in run.err
    assert "Value error" not in run.err
    assert not output.exists()
