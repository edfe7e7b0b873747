"""`tagloom evaluate`: how well a bundle tags pictures whose tags are known."""

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from engine import schema
from engine.cut import TopK
from engine.errors import ConfigError, CorpusError
from engine.measuring import answers_among
from engine.numerics.metric_registry import METRICS, Answers, figures_of
from engine.plan import annotation_plan
from engine.report import Facts
from engine.report.content import word_lines
from engine.storage.bundles import everywhere
from engine.storage.files import is_remote, local_path, open_fs, shown
from engine.vocab import Vocabulary, normalise_tags
from engine.vocabulary_rules import VocabularyRules
from jobs.bundles import open_bundle
from jobs.chunks import Inventory
from jobs.console import Console
from jobs.fanout import check_way
from jobs.fit import INPUT_TAGS
from jobs.report import write_report
from jobs.runner import RunSettings, in_worker, run_plan
from jobs.scratch import scratch_store
from jobs.session import ray_session
from jobs.sink import part_name
from jobs.source import take_inventory
from jobs.store import Store, absolute


@dataclass(frozen=True)
class Evaluation:
    """How well a bundle tags a corpus.

    Attributes:
        figures: every metric of `engine.numerics.metric_registry` that applies, by name.
        unused: pictures that have no tag or could not be decoded.
    """

    figures: Mapping[str, float]
    words: int
    words_unknown_to_bundle: int
    pictures: int
    unused: int
    top_k: TopK
    bundle_id: str

    def to_json(self) -> dict[str, object]:
        """The figures beside the rest, rounded; what metrics.json holds."""
        # A count is a whole number, and a share has no place to lose.
        figures = {
            name: round(value, METRICS[name].digits + 2) if METRICS[name].digits else int(value)
            for name, value in self.figures.items()
        }
        return {
            **figures,
            "words": self.words,
            "words_unknown_to_bundle": self.words_unknown_to_bundle,
            "pictures": self.pictures,
            "unused": self.unused,
            "top_k": self.top_k,
            "bundle_id": self.bundle_id,
        }


def read_words(name: str) -> tuple[str, ...]:
    """The words of a file at a path or URL, one a line.

    Raises:
        ConfigError: it cannot be read, or holds none.
    """
    try:
        fs, path = open_fs(name)
        words = normalise_tags(fs.cat_file(path).decode().splitlines())
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{shown(name)}: cannot be read as a list of words ({error})") from error
    if not words:
        raise ConfigError(f"{shown(name)}: holds no words; write one a line")
    return words


def evaluate(
    bundle_name: str,
    corpus: str,
    out: str | Path,
    top_k: TopK,
    console: Console,
    words_file: str | None = None,
    settings: RunSettings | None = None,
    report: bool = False,
) -> Evaluation:
    """Annotate a tagged corpus and compare; writes metrics.json and words.json into `out`.

    Args:
        out: a path or URL at which nothing is.
        words_file: only these words are given and counted; None: the bundle's vocabulary.
        report: write report.html too.

    Raises:
        TagloomError: the bundle, the corpus or the words are not as they must be.
    """
    bundle = open_bundle(bundle_name, console)
    check_way(bundle, (settings or RunSettings()).index)
    words = bundle.vocabulary.tags if words_file is None else read_words(words_file)
    if not set(words) & set(bundle.vocabulary.tags):
        raise ConfigError(
            f"{words_file}: the bundle knows none of its {len(words)} words, such as "
            f"'{words[0]}'; give words of its vocabulary, such as '{bundle.vocabulary.tags[0]}'"
        )
    plan = everywhere(annotation_plan(bundle, top_k, among=words, dense=True), bundle)
    out = str(out)
    if Store(out).names():
        raise ConfigError(f"{shown(out)}: is there already and not empty; name another folder")
    said = _Said(bundle.vocabulary, bundle.own_rules)
    with ray_session(), scratch_store(out) as store:
        with console.waiting("listing the corpus"):
            inventory = in_worker(take_inventory, absolute(corpus), store, is_corpus=True)
        assert isinstance(inventory, Inventory)
        with console.progress("evaluating", inventory.rows) as advance:
            limit = bundle.manifest.limits.max_bytes
            for receipt in run_plan(
                plan, inventory, frozenset(), store, settings or RunSettings(), limit
            ):
                advance(receipt.rows, receipt.failed)
        for number, chunk in enumerate(inventory.chunks):
            with store.open(part_name(chunk.name)) as file:
                said.add(number, pq.read_table(file))
        if not said.ids:
            raise CorpusError(
                f"{corpus}: none of its {inventory.rows:,} pictures has both tags and pixels; give "
                "pictures with `tags`"
            )
        answers = said.answers(words)
        result = Evaluation(
            figures=figures_of(answers),
            words=len(words),
            words_unknown_to_bundle=len(set(words) - set(bundle.vocabulary.tags)),
            pictures=len(said.ids),
            unused=inventory.rows - len(said.ids),
            top_k=top_k,
            bundle_id=bundle.id,
        )
        files = {
            "metrics.json": _text(result.to_json()),
            "words.json": _text(_words(answers, words)),
        }
        if report:
            with console.waiting("writing the report"):
                facts = Facts(
                    f"How well {Path(bundle_name).name} tags {Path(corpus).name}",
                    bundle.id,
                    corpus,
                    str(top_k),
                    result.pictures,
                    result.unused,
                    result.words_unknown_to_bundle,
                )
                files["report.html"] = write_report(
                    facts, answers, words, bundle, said.ids, said.rows, inventory
                )
        _write(out, files)
    return result


@dataclass
class _Said:
    """What the bundle said of the pictures that have tags, and what is true of them.

    Attributes:
        rows: of each picture the number of its chunk and its row in it.
    """

    vocabulary: Vocabulary
    rules: VocabularyRules
    ids: list[str] = field(default_factory=list)
    rows: list[tuple[int, int]] = field(default_factory=list)
    true: list[tuple[str, ...]] = field(default_factory=list)
    given: list[NDArray[np.int64]] = field(default_factory=list)
    scores: list[NDArray[np.float32]] = field(default_factory=list)
    quantities: list[NDArray[np.float32]] = field(default_factory=list)

    def add(self, number: int, part: pa.Table) -> None:
        """Take what is in the part of a chunk."""
        truth = part.column(INPUT_TAGS).to_pylist()
        tagged = part.column(schema.TAGS).is_valid().to_pylist()
        rows = [row for row, tags in enumerate(truth) if tags and tagged[row]]
        if not rows:
            return
        used = part.take(pa.array(rows))
        self.ids.extend(used.column(schema.IMAGE_ID).to_pylist())
        self.rows.extend((number, row) for row in rows)
        # Named as the bundle was taught to name them.
        self.true.extend(map(self.rules.rewritten, used.column(INPUT_TAGS).to_pylist()))
        index = self.vocabulary.index
        self.given.extend(
            np.array([index[item["tag"]] for item in tags], dtype=np.int64)
            for tags in used.column(schema.TAGS).to_pylist()
        )
        self.scores.append(schema.float_tensor(used, schema.FUSED))
        if schema.QUANTITY in used.column_names:
            self.quantities.append(used.column(schema.QUANTITY).to_numpy())

    def answers(self, words: tuple[str, ...]) -> Answers:
        """All of it over the counted words."""
        counts_N = np.array([len(tags) for tags in self.given], dtype=np.int64)
        given_NR = np.zeros((len(counts_N), int(counts_N.max())), dtype=np.int64)
        given_NR[np.arange(given_NR.shape[1]) < counts_N[:, None]] = np.concatenate(self.given)
        counted = Vocabulary(words, (0,) * len(words))
        places_NW = counted.encode_places(self.true).toarray()
        return answers_among(
            words,
            self.vocabulary,
            np.concatenate(self.scores),
            given_NR,
            counts_N,
            places_NW,
            np.concatenate(self.quantities) if self.quantities else None,
        )


def _words(answers: Answers, words: tuple[str, ...]) -> list[dict[str, object]]:
    return [
        {
            "word": line.word,
            "true": line.true,
            "given": line.given,
            "precision": round(line.precision, 4),
            "recall": round(line.recall, 4),
            "average_precision": None
            if line.average_precision is None
            else round(line.average_precision, 4),
        }
        for line in word_lines(answers, words, {})
    ]


def show(result: Evaluation, console: Console) -> None:
    """Print the figures as a table."""
    title = f"{result.pictures:,} pictures, {result.words:,} words, k = {result.top_k}"
    names = ("precision", "recall", "f1", "n_plus", "picture_f1", "h_f1", "map", "mean_ndcg")
    shown = [f"{result.figures[name]:.{METRICS[name].digits}f}" for name in names]
    heads = ["bundle", *(METRICS[name].label for name in names)]
    console.table(title, heads, [[result.bundle_id, *shown]])


def _text(content: object) -> str:
    return json.dumps(content, indent=1, ensure_ascii=False)


def _write(place: str, files: Mapping[str, str]) -> None:
    if is_remote(place):
        # The metrics last: with them it is all there.
        for name in sorted(files, key="metrics.json".__eq__):
            Store(place).write(name, files[name].encode())
        return
    out = local_path(place)
    draft = out.absolute().parent / f".{out.name}.{os.getpid()}.tmp"
    draft.mkdir(parents=True)
    try:
        for name, text in files.items():
            (draft / name).write_text(text, encoding="utf-8")
        if out.exists():
            out.rmdir()
        draft.rename(out)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
