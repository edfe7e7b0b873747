"""The bundle: a folder with everything that annotation needs, each file under its sha256."""

import glob
import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from engine.annotators import REGISTRY
from engine.cut import Cut
from engine.embed import Compute, backbone
from engine.ensemble import Ensemble
from engine.errors import BundleError
from engine.fusion import Fusion
from engine.index import ShardMap, Shards, load_map
from engine.manifest import MANIFEST, Manifest, manifest_text, read_manifest
from engine.quantity import Quantity
from engine.recipe import Annotator, Shardable
from engine.swap import put_in_place
from engine.tagging import Tagging
from engine.thumbnails import Thumbnails
from engine.vocab import Vocabulary, check_digest
from engine.vocabulary_rules import VocabularyRules

RULES = "rules.json"
"""File of the vocabulary rules that the bundle was fitted with, if there were any."""

QUANTITY = "quantity"
"""Folder of what says how many tags a picture gets, where that is no annotator."""


@dataclass(frozen=True)
class Bundle:
    """A bundle on disk whose files were checked. Annotators are loaded when asked for.

    Attributes:
        rules: of what it gives, as if it had been fitted with them.
    """

    folder: Path
    manifest: Manifest
    rules: VocabularyRules = field(default_factory=VocabularyRules)

    @property
    def id(self) -> str:
        """In every output row and every response."""
        return self.manifest.id

    @cached_property
    def vocabulary(self) -> Vocabulary:
        return Vocabulary.load(self.folder / "vocabulary.json")

    @cached_property
    def tagging(self) -> Tagging:
        """What its tags are given as.

        Raises:
            ConfigError: `rules` names what the bundle does not know, or leaves no tag.
        """
        return Tagging.of(self.vocabulary, self.own_rules, self.rules)

    @cached_property
    def own_rules(self) -> VocabularyRules:
        """Those that it was fitted with."""
        if RULES not in self.manifest.files:
            return VocabularyRules()
        return VocabularyRules.model_validate_json((self.folder / RULES).read_bytes())

    @cached_property
    def ensemble(self) -> Ensemble:
        return Ensemble.load(self.folder)

    @cached_property
    def quantity(self) -> Quantity:
        """What says how many tags a picture gets, where the ensemble's `counter` is `OWN`."""
        return Quantity.load(self.folder / QUANTITY)

    @property
    def fusion(self) -> Fusion:
        return self.ensemble.fusion

    @property
    def cut(self) -> Cut:
        return self.ensemble.cut

    @cached_property
    def thumbnails(self) -> Thumbnails:
        return Thumbnails(self.folder / "thumbnails")

    def annotator(self, name: str, shards: Shards | None = None) -> Annotator:
        """Load one annotator.

        Args:
            shards: who holds the shards of its index; None: they are merged in this process.

        Raises:
            BundleError: it belongs to another vocabulary than the bundle.
        """
        kind = REGISTRY[self.manifest.annotators[name]].annotator
        folder = self.folder / "annotators" / name
        if shards is None:
            loaded = kind.load(folder)
        else:
            assert issubclass(kind, Shardable), name
            loaded = kind.load_over(folder, shards)
        check_digest(f"annotator '{name}'", loaded.vocabulary_digest, self.manifest.vocabulary)
        return loaded

    @cached_property
    def shard_maps(self) -> dict[str, ShardMap]:
        """How the indexes are divided that are in shards, by annotator."""
        maps = {name: load_map(self.folder / "annotators" / name) for name in self.manifest.index}
        return {name: one for name, one in maps.items() if one is not None}

    def graph_for(self, compute: Compute | None) -> Path | None:
        """The folder of the exported graph, if it is of `compute` (None: the bundle's own)."""
        entry = self.manifest.backbone
        if entry.graph is None or compute not in (None, entry.compute):
            return None
        return self.folder / entry.graph

    def check_backbone(self, compute: Compute | None = None) -> None:
        """See that the weights are those the bundle was fitted with, in its graph or installed.

        Args:
            compute: what is to embed; None: what the bundle was fitted for.

        Raises:
            BundleError: they are others.
            BackboneError: they cannot be had.
        """
        if self.graph_for(compute) is not None:
            return
        entry = self.manifest.backbone
        found = backbone(entry.name).weights_sha256()
        if found != entry.weights_sha256:
            raise BundleError(
                f"{self.folder}: fitted with weights {entry.weights_sha256[:12]} of "
                f"'{entry.name}', but the weights here are {found[:12]}; install the same "
                "version of the weights, or fit the bundle again"
            )


def load_bundle(folder: Path) -> Bundle:
    """Open a bundle and check every file against its sha256.

    Raises:
        BundleError: it is no bundle, of another format, or a file is missing or was changed.
    """
    path = folder / MANIFEST
    manifest = read_manifest(path.read_bytes() if path.is_file() else None, str(folder))
    for name, digest in manifest.files.items():
        file = folder / name
        if not file.is_file():
            raise BundleError(f"{folder}: {name} is missing; copy the whole bundle again")
        if _sha256(file) != digest:
            raise BundleError(
                f"{folder}: {name} was changed since the bundle was made (its sha256 differs); "
                "copy the bundle again, or fit it again"
            )
    unknown = sorted(set(manifest.annotators.values()) - set(REGISTRY))
    if unknown:
        raise BundleError(f"{folder}: this version knows no annotator of kind {unknown}")
    return Bundle(folder, manifest)


def check_target(folder: Path, overwrite: bool) -> None:
    """Refuse to write a bundle where something is already.

    Raises:
        BundleError: `folder` exists, is not empty, and may not be replaced.
    """
    if folder.exists() and not folder.is_dir():
        raise BundleError(f"{folder}: is a file; name a folder for the bundle")
    if folder.is_dir() and any(folder.iterdir()):
        is_bundle = (folder / MANIFEST).is_file()
        if not (overwrite and is_bundle):
            what = "a bundle" if is_bundle else "something that is no bundle"
            raise BundleError(
                f"{folder}: {what} is there already; name another folder"
                + (", or allow it with --overwrite" if is_bundle else "")
            )


@contextmanager
def new_bundle(folder: Path, overwrite: bool) -> Iterator[Path]:
    """Give a temporary folder to fill; `seal_bundle` it within; it takes its name at the end.

    If the block raises, nothing is left behind and an older bundle stays as it was.
    """
    check_target(folder, overwrite)
    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = folder.parent / f".{folder.name}.{os.getpid()}.tmp"
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir()
    try:
        yield draft
        put_in_place(draft, folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def sweep_drafts(folder: Path) -> None:
    """Remove what killed runs left of a bundle in a folder's name, where no other run is at it."""
    for draft in folder.parent.glob(f".{glob.escape(folder.name)}.*.tmp"):
        shutil.rmtree(draft, ignore_errors=True)


def seal_bundle(draft: Path, manifest: Manifest) -> Manifest:
    """Write the manifest with the sha256 of every file in the draft; it comes back with them."""
    files = sorted(path for path in draft.rglob("*") if path.is_file())
    digests = {path.relative_to(draft).as_posix(): _sha256(path) for path in files}
    sealed = manifest.model_copy(update={"files": digests})
    (draft / MANIFEST).write_text(manifest_text(sealed), encoding="utf-8", newline="\n")
    return sealed


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
