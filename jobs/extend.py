"""`tagloom index add` and `remove`: pictures into a bundle and out of it, without fitting again."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from engine import schema
from engine.bundle import Bundle
from engine.errors import ConfigError, CorpusError
from engine.extending import (
    Newcomers,
    add_pictures,
    check_new,
    extensible_annotators,
    remove_pictures,
)
from engine.manifest import Manifest
from engine.plan import bundle_embedding_plan
from engine.storage.bundles import bundle_target, check_place, everywhere, open_at
from engine.storage.files import shown
from jobs.bundles import open_bundle
from jobs.chunks import Inventory
from jobs.console import Console
from jobs.fit import INPUT_TAGS, Embedded, embed_pictures
from jobs.runner import RunSettings, in_worker
from jobs.scratch import scratch_store
from jobs.session import ray_session
from jobs.source import take_inventory
from jobs.store import absolute

SHOWN = 10
"""Unknown tags that are named, the most frequent first."""


@dataclass(frozen=True)
class Change:
    """What became of a bundle.

    Attributes:
        pictures: of the annotator that has most of them, after the change.
        passed_over: given pictures without a tag that the bundle knows.
        failed: given pictures that could not be used.
        unknown_tags: different tags of theirs that the bundle does not know.
    """

    bundle_id: str
    pictures: int
    added: int = 0
    removed: int = 0
    passed_over: int = 0
    failed: int = 0
    unknown_tags: int = 0


def add(
    bundle_name: str,
    corpus: str,
    out: str | None,
    in_place: bool,
    console: Console,
    max_failed: float = 0.5,
    settings: RunSettings | None = None,
) -> Change:
    """Embed a tagged corpus as the bundle embeds what it annotates, and add its pictures.

    Raises:
        TagloomError: the bundle, the corpus or the target is not as it must be; nothing is
            changed then, and nothing left behind.
    """
    target = _target(bundle_name, out, in_place)
    bundle = open_bundle(bundle_name, console)
    annotators = extensible_annotators(bundle)
    _say_what_stays(bundle, tuple(annotators), console)
    with ray_session(), scratch_store(target) as store:
        with console.waiting("listing the corpus"):
            inventory = in_worker(take_inventory, absolute(corpus), store, is_corpus=True)
        assert isinstance(inventory, Inventory)
        plan = everywhere(bundle_embedding_plan(bundle, thumbnails=bool(bundle.thumbnails)), bundle)
        embedded = embed_pictures(
            corpus,
            inventory,
            plan,
            store,
            console,
            settings or RunSettings(),
            bundle.manifest.limits.max_bytes,
            max_failed,
        )
        found = _gather(corpus, embedded, bundle)
        check_new(bundle, annotators, found.newcomers.ids)
        for line in found.news:
            console.say(line)
        note = "; ".join(
            (f"{len(found.newcomers.ids):,} pictures added without fitting again", *found.news)
        )
        with bundle_target(target, overwrite=in_place) as draft:
            manifest = add_pictures(draft, bundle, found.newcomers, note)
    _show(manifest, target, console)
    return Change(
        bundle_id=manifest.id,
        pictures=_most(manifest),
        added=len(found.newcomers.ids),
        passed_over=found.passed_over,
        failed=sum(embedded.errors.values()),
        unknown_tags=found.unknown_tags,
    )


def remove(
    bundle_name: str, ids_file: Path, out: str | None, in_place: bool, console: Console
) -> Change:
    """Remove the pictures whose ids a file names.

    Raises:
        TagloomError: the bundle, the file or the target is not as it must be; nothing is changed
            then.
    """
    target = _target(bundle_name, out, in_place)
    bundle = open_at(bundle_name)
    ids = read_ids(ids_file)
    _say_what_stays(bundle, tuple(extensible_annotators(bundle)), console)
    with bundle_target(target, overwrite=in_place) as draft:
        manifest = remove_pictures(draft, bundle, ids)
    _show(manifest, target, console)
    return Change(bundle_id=manifest.id, pictures=_most(manifest), removed=len(ids))


def read_ids(path: Path) -> tuple[str, ...]:
    """The distinct ids of a file, one a line.

    Raises:
        ConfigError: it cannot be read, or names none.
    """
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read as a list of ids ({error})") from error
    ids = tuple(dict.fromkeys(filter(None, (line.removesuffix("\r") for line in lines))))
    if not ids:
        raise ConfigError(f"{path}: names no pictures; write one id a line")
    return ids


def _target(bundle_name: str, out: str | None, in_place: bool) -> str:
    if (out is None) != in_place:
        raise ConfigError("give one of --out and --in-place")
    if out is None:
        return absolute(bundle_name)
    check_place(out, overwrite=False)
    return out


def _say_what_stays(bundle: Bundle, changing: Sequence[str], console: Console) -> None:
    stays = [name for name in bundle.manifest.annotators if name not in changing]
    if stays:
        console.say(
            f"pictures of {', '.join(changing)} change; {', '.join(stays)} and the blend stay as "
            "they were fitted"
        )


@dataclass(frozen=True)
class _Found:
    newcomers: Newcomers
    passed_over: int
    unknown_tags: int
    news: tuple[str, ...]


def _gather(corpus: str, embedded: Embedded, bundle: Bundle) -> _Found:
    """Read the healthy pictures with a known tag back; count the others and the unknown tags."""
    vocabulary, rules = bundle.vocabulary, bundle.own_rules
    ids: list[str] = []
    tags: list[tuple[str, ...]] = []
    blocks: list[NDArray[np.float32]] = []
    thumbnails: dict[str, bytes] = {}
    unknown: Counter[str] = Counter()
    passed_over = 0
    for part in embedded.parts():
        healthy = part.filter(part.column(schema.ERROR).is_null())
        given = [rules.rewritten(one or ()) for one in healthy.column(INPUT_TAGS).to_pylist()]
        known = [tuple(tag for tag in one if tag in vocabulary.index) for one in given]
        unknown.update(tag for one in given for tag in one if tag not in vocabulary.index)
        passed_over += sum(not one for one in known)
        healthy = healthy.filter(pa.array([bool(one) for one in known], pa.bool_()))
        if healthy.num_rows == 0:
            continue
        here = healthy.column(schema.IMAGE_ID).to_pylist()
        ids.extend(here)
        tags.extend(one for one in known if one)
        blocks.append(schema.float_tensor(healthy, schema.EMBEDDING))
        if schema.THUMBNAIL in healthy.column_names:
            thumbnails.update(zip(here, healthy.column(schema.THUMBNAIL).to_pylist(), strict=True))
    if not ids:
        raise CorpusError(
            f"{corpus}: no picture of it has both pixels and a tag that the bundle knows, such as "
            f"'{vocabulary.tags[0]}'; give such pictures, or fit a bundle that learns their tags"
        )
    news = []
    if passed_over:
        news.append(f"{passed_over:,} pictures have no tag that the bundle knows: passed over")
    if unknown:
        named = ", ".join(f"'{tag}'" for tag, _ in unknown.most_common(SHOWN))
        more = ", ..." if len(unknown) > SHOWN else ""
        news.append(f"{len(unknown):,} tags are unknown to the bundle: left out ({named}{more})")
    newcomers = Newcomers(tuple(ids), np.concatenate(blocks), vocabulary.encode(tags), thumbnails)
    return _Found(newcomers, passed_over, len(unknown), tuple(news))


def _most(manifest: Manifest) -> int:
    return max(entry.vectors for entry in manifest.index.values())


def _show(manifest: Manifest, target: str, console: Console) -> None:
    for name, entry in manifest.index.items():
        console.say(f"'{name}' has {entry.vectors:,} pictures")
    console.say(f"bundle {manifest.id} is at {shown(target)}")
