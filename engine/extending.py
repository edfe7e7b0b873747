"""Adds pictures to a bundle and removes them: the index changes, what was learned stays.

Only annotators that transfer tags from pictures (`engine.recipe.Extensible`) change. The others,
the fusion, the cut, the vocabulary with its counts and the figures in the manifest are those of
the fit.
"""

import hashlib
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from engine.bundle import Bundle, seal_bundle
from engine.errors import ConfigError, CorpusError
from engine.index import IndexEntry
from engine.manifest import MANIFEST, Manifest
from engine.recipe import Annotator, Extensible
from engine.thumbnails import save_thumbnails

_SHOWN = 5


@dataclass(frozen=True)
class Newcomers:
    """M embedded pictures, each with at least one tag of the bundle's vocabulary."""

    ids: tuple[str, ...]
    embeddings_MD: NDArray[np.float32]
    labels_MV: sparse.csr_matrix
    thumbnails: Mapping[str, bytes]


def extensible_annotators(bundle: Bundle) -> dict[str, Extensible]:
    """The bundle's annotators that pictures can be added to and removed from, by name.

    Raises:
        ConfigError: it has none.
    """
    loaded = {name: bundle.annotator(name) for name in bundle.manifest.index}
    found: dict[str, Extensible] = {
        name: one for name, one in loaded.items() if isinstance(one, Extensible)
    }
    if not found:
        kinds = ", ".join(f"'{name}' ({kind})" for name, kind in bundle.manifest.annotators.items())
        raise ConfigError(
            f"{bundle.folder}: none of its annotators transfers tags from pictures in an index "
            f"({kinds}); fit a bundle with one that does, such as 'cca-knn'"
        )
    return found


def check_new(bundle: Bundle, annotators: Mapping[str, Extensible], ids: Iterable[str]) -> None:
    """Refuse pictures whose ids are there already.

    Raises:
        CorpusError: some are; it names the first of them.
    """
    given = list(ids)
    for name, one in annotators.items():
        there = set(one.ids)
        twice = [image_id for image_id in given if image_id in there]
        if twice:
            raise CorpusError(
                f"{bundle.folder}: {_named(twice)} among the pictures of '{name}' already; remove "
                "these first ('tagloom index remove'), or give the new pictures other ids"
            )


def add_pictures(draft: Path, bundle: Bundle, newcomers: Newcomers, note: str) -> Manifest:
    """Fill `draft` with the bundle and more pictures.

    Args:
        note: what a user should know of them.

    Raises:
        CorpusError: an id is there already.
        ConfigError: no annotator takes pictures, or an index would outgrow its budget.
    """
    annotators = extensible_annotators(bundle)
    check_new(bundle, annotators, newcomers.ids)

    def grown(one: Extensible, entry: IndexEntry) -> Annotator:
        embeddings_MD, labels_MV = newcomers.embeddings_MD, newcomers.labels_MV
        return one.added(newcomers.ids, embeddings_MD, labels_MV, entry)

    kept = bundle.thumbnails.all()
    thumbnails = {**kept, **newcomers.thumbnails} if kept else {}
    return _rewrite(draft, bundle, annotators, grown, thumbnails, note)


def remove_pictures(draft: Path, bundle: Bundle, ids: Sequence[str]) -> Manifest:
    """Fill `draft` with the bundle without some pictures.

    A tag whose last carrier goes stays in the vocabulary: the changed annotators give it no votes
    any more, the others score it as before.

    Raises:
        ConfigError: no annotator has pictures, an id is unknown, or none would be left.
    """
    annotators = extensible_annotators(bundle)
    gone = dict.fromkeys(ids)
    for name, one in annotators.items():
        there = set(one.ids)
        unknown = [image_id for image_id in gone if image_id not in there]
        if unknown:
            raise ConfigError(
                f"{bundle.folder}: {_named(unknown)} not among the pictures of '{name}'; give ids "
                "that are, such as '" + one.ids[0] + "'"
            )
        if len(gone) == len(one.ids):
            raise ConfigError(
                f"{bundle.folder}: these are all the {len(one.ids):,} pictures of '{name}', and "
                "tags are transferred from at least one; leave one, or fit another bundle"
            )

    def thinned(one: Extensible, entry: IndexEntry) -> Annotator:
        rows = [row for row, image_id in enumerate(one.ids) if image_id in gone]
        return one.without(np.array(rows, dtype=np.int64), entry)

    kept = bundle.thumbnails.all()
    thumbnails = {image_id: jpeg for image_id, jpeg in kept.items() if image_id not in gone}
    note = f"{_pictures(len(gone))} removed without fitting again"
    return _rewrite(draft, bundle, annotators, thinned, thumbnails, note)


def _rewrite(
    draft: Path,
    bundle: Bundle,
    annotators: Mapping[str, Extensible],
    change: Callable[[Extensible, IndexEntry], Annotator],
    thumbnails: Mapping[str, bytes],
    note: str,
) -> Manifest:
    """Copy the bundle with other annotators and thumbnails, and seal it under another id."""
    before = bundle.manifest
    shutil.copytree(bundle.folder, draft, dirs_exist_ok=True)
    (draft / MANIFEST).unlink()
    entries = dict(before.index)
    digest = hashlib.sha256()
    for name, one in annotators.items():
        changed = change(one, before.index[name])
        folder = draft / "annotators" / name
        shutil.rmtree(folder)
        folder.mkdir()
        changed.save(folder)
        entry = changed.index_entry
        assert entry is not None, name
        entries[name] = entry
        assert isinstance(changed, Extensible)
        digest.update("\n".join((name, *changed.ids)).encode())
    if (draft / "thumbnails").is_dir():
        shutil.rmtree(draft / "thumbnails")
        (draft / "thumbnails").mkdir()
        save_thumbnails(draft / "thumbnails", thumbnails)
    manifest = before.model_copy(
        update={
            "index": entries,
            "fingerprints": {**before.fingerprints, "pictures": digest.hexdigest()},
            "notes": (*before.notes, f"{note}; the figures are those of the fit"),
            "files": {},
        }
    )
    return seal_bundle(draft, manifest)


def _named(ids: Sequence[str]) -> str:
    shown = ", ".join(f"'{image_id}'" for image_id in ids[:_SHOWN])
    more = len(ids) - _SHOWN
    return f"{shown}{f' and {more:,} more' if more > 0 else ''} {'is' if len(ids) == 1 else 'are'}"


def _pictures(count: int) -> str:
    return f"{count:,} picture{'s' if count != 1 else ''}"
