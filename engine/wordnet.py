"""WordNet's nouns, and the more general nouns above each, from a folder where it is installed."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from engine.errors import ConfigError

FOLDERS = (
    Path("/usr/share/wordnet"),  # Debian's wordnet-base
    Path("/usr/share/nltk_data/corpora/wordnet"),
    Path("/usr/local/share/nltk_data/corpora/wordnet"),
    Path("/usr/local/WordNet-3.0/dict"),
)
_FILE = "data.noun"
# Synset ids are byte offsets into one edition's file, so that another edition would not fail but
# quietly give other words: the edition is named in the licence at the head of the file.
_EDITION = "WordNet 3.0 Copyright"
_HYPERNYMS = ("@", "@i")


@dataclass(frozen=True, eq=False)
class Nouns:
    """WordNet 3.0's noun synsets: the offset of each, eight digits, to those right above it."""

    hypernyms: Mapping[str, tuple[str, ...]]

    def above(self, offset: str) -> Iterator[str]:
        """The synsets that a synset is a kind of, each once, the nearest first, without itself.

        Raises ConfigError where the synset, or one above it, is not in the file.
        """
        seen = {offset}
        level = [offset]
        while level:
            upper: list[str] = []
            for below in level:
                if below not in self.hypernyms:
                    raise ConfigError(
                        f"WordNet's {_FILE} has no synset {below}; install WordNet 3.0 again "
                        "(on Debian: apt install --reinstall wordnet-base)"
                    )
                for synset in self.hypernyms[below]:
                    if synset not in seen:
                        seen.add(synset)
                        upper.append(synset)
            yield from upper
            level = upper


def find_wordnet(folders: Sequence[Path] = FOLDERS) -> Path | None:
    """The first of the folders that holds WordNet's nouns, or None."""
    return next((folder for folder in folders if (folder / _FILE).is_file()), None)


def read_nouns(folder: Path) -> Nouns:
    """Read `data.noun` of WordNet 3.0 (its format: the manual page wndb(5WN)).

    Raises ConfigError where the folder has no such file, or one of another edition.
    """
    path = folder / _FILE
    if not path.is_file():
        raise ConfigError(
            f"no WordNet in {folder}: {_FILE} is not there; install it "
            "(on Debian: apt install wordnet-base) or name the folder that holds it"
        )
    hypernyms: dict[str, tuple[str, ...]] = {}
    header: list[str] = []
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            if line.startswith(" "):
                header.append(line)
            else:
                offset, above = _parse(line)
                hypernyms[offset] = above
    if not any(_EDITION in line for line in header):
        raise ConfigError(
            f"{path} is not of WordNet 3.0, the edition whose synset ids ImageNet's classes "
            f"have: its head lacks '{_EDITION}'; name a folder with WordNet 3.0"
        )
    return Nouns(hypernyms)


def _parse(line: str) -> tuple[str, tuple[str, ...]]:
    """The offset and the hypernyms' offsets of one line.

    offset lex_file type n_words(hex) (word id)... n_pointers (symbol offset type parts)... | gloss
    """
    fields = line.partition("|")[0].split()
    start = 4 + 2 * int(fields[3], 16)
    pointers = fields[start + 1 : start + 1 + 4 * int(fields[start])]
    above = zip(pointers[::4], pointers[1::4], strict=True)
    return fields[0], tuple(offset for symbol, offset in above if symbol in _HYPERNYMS)
