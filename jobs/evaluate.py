"""`tagloom evaluate`: how well a bundle tags pictures whose tags are known."""

import json
import os
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from engine import schema
from engine.cut import TopK
from engine.errors import ConfigError, CorpusError
from engine.numerics.metrics import picture_metrics, word_metrics
from engine.plan import annotation_plan
from engine.vocab import Vocabulary, normalise_tags
from jobs.annotate import open_bundle
from jobs.chunks import Inventory
from jobs.console import Console
from jobs.fit import INPUT_TAGS
from jobs.runner import RunSettings, in_worker, run_plan
from jobs.session import ray_session
from jobs.source import take_inventory
from jobs.store import Store, absolute, scratch_beside


@dataclass(frozen=True)
class Evaluation:
    """The protocol of Murthy et al. 2015, section 4, in per cent, and the same per picture.

    Attributes:
        precision, recall: averaged over all the words; f1: of these two; n_plus: words with
            recall above zero.
        picture_precision, picture_recall, picture_f1: over all (picture, tag) pairs.
        unused: pictures that have no tag or could not be decoded.
    """

    precision: float
    recall: float
    f1: float
    n_plus: int
    words: int
    words_unknown_to_bundle: int
    pictures: int
    unused: int
    picture_precision: float
    picture_recall: float
    picture_f1: float
    top_k: TopK
    bundle_id: str


def read_words(path: Path) -> tuple[str, ...]:
    """The words of a file, one a line.

    Raises:
        ConfigError: it cannot be read, or holds none.
    """
    try:
        words = normalise_tags(path.read_text(encoding="utf-8").splitlines())
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read as a list of words ({error})") from error
    if not words:
        raise ConfigError(f"{path}: holds no words; write one a line")
    return words


def evaluate(
    bundle_name: str,
    corpus: str,
    out: Path,
    top_k: TopK,
    console: Console,
    words_file: Path | None = None,
    settings: RunSettings | None = None,
) -> Evaluation:
    """Annotate a tagged corpus and compare; writes metrics.json and words.json into `out`.

    Args:
        words_file: only these words are given and counted; None: the bundle's vocabulary.

    Raises:
        TagloomError: the bundle, the corpus or the words are not as they must be.
    """
    bundle = open_bundle(bundle_name, console)
    words = bundle.vocabulary.tags if words_file is None else read_words(words_file)
    if not set(words) & set(bundle.vocabulary.tags):
        raise ConfigError(
            f"{words_file}: the bundle knows none of its {len(words)} words, such as "
            f"'{words[0]}'; give words of its vocabulary, such as '{bundle.vocabulary.tags[0]}'"
        )
    plan = annotation_plan(bundle, top_k, among=words)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError(f"{out}: is there already and not empty; name another folder")
    counted = Vocabulary(words, (0,) * len(words))
    given: list[list[str]] = []
    true: list[list[str]] = []
    unused = 0
    with ray_session(), scratch_beside(out) as work:
        store = Store(work)
        with console.waiting("listing the corpus"):
            inventory = in_worker(take_inventory, absolute(corpus), store, is_corpus=True)
        assert isinstance(inventory, Inventory)
        with console.progress("evaluating", inventory.rows) as advance:
            limit = bundle.manifest.limits.max_bytes
            for receipt in run_plan(
                plan, inventory, frozenset(), store, settings or RunSettings(), limit
            ):
                advance(receipt.rows)
        for chunk in inventory.chunks:
            part = pq.read_table(store.path(f"part-{chunk.name}.parquet"))
            for tags, truth in zip(
                part.column(schema.TAGS).to_pylist(),
                part.column(INPUT_TAGS).to_pylist(),
                strict=True,
            ):
                if tags is None or not truth:
                    unused += 1
                    continue
                given.append([item["tag"] for item in tags])
                true.append(truth)
    if not true:
        raise CorpusError(
            f"{corpus}: none of its {inventory.rows:,} pictures has both tags and pixels; give "
            "pictures with `tags`"
        )
    given_NW = counted.encode(given).toarray() > 0
    truth_NW = counted.encode(true).toarray() > 0
    by_word = word_metrics(given_NW, truth_NW)
    by_picture = picture_metrics(given_NW, truth_NW)
    result = Evaluation(
        precision=round(100 * by_word.precision, 2),
        recall=round(100 * by_word.recall, 2),
        f1=round(100 * by_word.f1, 2),
        n_plus=by_word.n_plus,
        words=len(words),
        words_unknown_to_bundle=len(set(words) - set(bundle.vocabulary.tags)),
        pictures=len(true),
        unused=unused,
        picture_precision=round(100 * by_picture.precision, 2),
        picture_recall=round(100 * by_picture.recall, 2),
        picture_f1=round(100 * by_picture.f1, 2),
        top_k=top_k,
        bundle_id=bundle.id,
    )
    rows = [
        {
            "word": word,
            "true": int(truth_NW[:, place].sum()),
            "given": int(given_NW[:, place].sum()),
            "precision": float(np.round(by_word.precision_W[place], 4)),
            "recall": float(np.round(by_word.recall_W[place], 4)),
        }
        for place, word in enumerate(words)
    ]
    _write(out, {"metrics.json": asdict(result), "words.json": rows})
    return result


def show(result: Evaluation, console: Console) -> None:
    """Print the figures as a table."""
    title = f"{result.pictures:,} pictures, {result.words:,} words, k = {result.top_k}"
    row = [
        result.bundle_id,
        f"{result.precision:.1f}",
        f"{result.recall:.1f}",
        f"{result.f1:.1f}",
        str(result.n_plus),
        f"{result.picture_f1:.1f}",
    ]
    console.table(title, ["bundle", "P", "R", "F1", "N+", "picture F1"], [row])


def _write(out: Path, files: dict[str, object]) -> None:
    draft = out.absolute().parent / f".{out.name}.{os.getpid()}.tmp"
    draft.mkdir(parents=True)
    try:
        for name, content in files.items():
            text = json.dumps(content, indent=1, ensure_ascii=False)
            (draft / name).write_text(text, encoding="utf-8")
        if out.exists():
            out.rmdir()
        draft.rename(out)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
