"""The corpora of a table: where they lie, what is counted, and their pictures embedded once."""

import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from engine import schema
from engine.columns import wanted_columns
from engine.config import FitConfig
from engine.errors import ConfigError, CorpusError
from engine.table.config import CORPUS_NAME, CorpusConfig, TableConfig
from engine.table.pictures import Pictures
from jobs.chunks import Inventory
from jobs.console import Console
from jobs.evaluate import read_words
from jobs.fit import embed_inventory, gather_material, graphs_folder
from jobs.identity import digest_of, embedding_identity
from jobs.runner import RunSettings, in_worker
from jobs.source import take_inventory
from jobs.store import Store, absolute, address, open_fs


def parse_places(given: Sequence[str], option: str) -> dict[str, str]:
    """Read `NAME=PATH`, once for each corpus.

    Raises:
        ConfigError: it is not that, or a name comes twice.
    """
    places: dict[str, str] = {}
    for text in given:
        name, separator, path = text.partition("=")
        if not separator or not name or not path:
            raise ConfigError(
                f"{option} {text!r}: write it as NAME=PATH, such as corel5k=~/corel5k"
            )
        if not re.search(CORPUS_NAME, name):
            raise ConfigError(
                f"{option}: '{name}' is no name of a corpus; write small letters, digits and '-'"
            )
        if name in places:
            raise ConfigError(f"{option}: '{name}' is given twice; name each corpus once")
        places[name] = str(Path(path).expanduser()) if path.startswith("~") else path
    return places


@dataclass(frozen=True)
class Part:
    """A corpus's pictures as they were listed: to train on, or a test part of its own."""

    url: str
    inventory: Inventory


@dataclass(frozen=True)
class Source:
    """A corpus of the table."""

    name: str
    config: CorpusConfig
    words: tuple[str, ...] | None
    training: Part
    test: Part | None


def check_there(url: str) -> None:
    """See that something is at a path or URL, before Ray starts.

    Raises:
        CorpusError: nothing is.
    """
    fs, root = open_fs(absolute(url))
    if not fs.exists(root):
        raise CorpusError(f"{url}: there is nothing at that path; check the spelling")


def counted_words(config: TableConfig, name: str, path: str) -> tuple[str, ...] | None:
    """The words that a corpus is measured by; None where no file names them.

    Raises:
        ConfigError: the file cannot be read, or holds none.
    """
    file = config.corpora.get(name, CorpusConfig()).words
    if file is None:
        return None
    fs, root = open_fs(absolute(path))
    beside = PurePosixPath(root) if fs.isdir(root) else PurePosixPath(root).parent
    return read_words(address(fs, str(beside / file)))


def list_source(
    name: str,
    config: TableConfig,
    words: tuple[str, ...] | None,
    corpora: Mapping[str, str],
    tests: Mapping[str, str],
    store: Store,
    console: Console,
) -> Source:
    """List a corpus's pictures, and those of its test part.

    Raises:
        CorpusError: they cannot be read, or have no tags.
    """

    def listed(url: str, part: str) -> Part:
        # The listing stays, for chunks that are embedded later are read by it.
        place = Store(f"{store.url}/corpora/{name}-{part}")
        with console.waiting(f"listing {name}"):
            inventory = in_worker(take_inventory, absolute(url), place, is_corpus=True)
        assert isinstance(inventory, Inventory)
        return Part(url, inventory)

    test = listed(tests[name], "test") if name in tests else None
    known = config.corpora.get(name, CorpusConfig())
    return Source(name, known, words, listed(corpora[name], "training"), test)


def embedded_folder(
    source: Source,
    part: Part,
    fit: FitConfig,
    store: Store,
    work: Store,
    console: Console,
    settings: RunSettings,
) -> str:
    """The folder in `work` of a part's embedded pictures, made now unless it is there already.

    A run that was killed goes on with what it had embedded. What features are learned from is the
    training part, its tags unseen.

    Raises:
        TagloomError: the pictures cannot be embedded, or too few of them.
    """
    sampled = source.training.inventory
    learned = sampled.fingerprint if schema.FEATURES in wanted_columns(fit) else None
    key = digest_of([*embedding_identity(fit), part.inventory.fingerprint, learned])
    name = f"embedded/{source.name}-{key[:16]}"
    place, parts = Store(f"{work.url}/{name}"), Store(f"{store.url}/{name}")
    folder = Path(place.path("."))
    if Pictures.is_saved(folder):
        return str(folder)
    console.say(f"embedding {source.name} by {fit.embed.backbone}")
    # With every tag, for a row's own limits on its vocabulary are not those of another.
    whole = fit.model_copy(update={"vocabulary": type(fit.vocabulary)()})
    done = embed_inventory(
        part.url,
        part.inventory,
        place,
        whole,
        console,
        settings,
        thumbnails=False,
        sampled=sampled,
        parts=parts,
    )
    material = gather_material(part.url, done, whole)
    Pictures.of(material.corpus, material.vocabulary).save(folder)
    # What embedding leaves is in the saved pictures now.
    left = ("part-*.parquet", "*.float32", "spool-*.npy")
    for file in (file for pattern in left for file in folder.glob(pattern)):
        file.unlink()
    shutil.rmtree(graphs_folder(place), ignore_errors=True)
    return str(folder)
