"""A bundle's manifest: what it is made of, what it was made from, and the sha256 of each file."""

import hashlib
import json
from pathlib import PurePosixPath

from pydantic import BaseModel, ConfigDict

from engine.embed import Compute
from engine.errors import BundleError
from engine.geometry import Geometry, Pixels
from engine.image import DecodeLimits
from engine.index import IndexEntry

FORMAT = 4
MANIFEST = "manifest.json"


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class BackboneEntry(_Part):
    """Which weights the embeddings come from, what computes them, and from which pixels.

    Attributes:
        graph: folder in the bundle of the graph exported for `compute`; None: torch computes.
    """

    name: str
    weights_sha256: str
    geometry: Geometry
    compute: Compute
    pixels: Pixels = "reference"
    graph: str | None = None


class Deviation(_Part):
    """How far a way from bytes to embeddings is from the reference, on a sample of pictures.

    Attributes:
        compute, pixels: the way.
        pictures: in the sample.
        cosine: the least between a picture's embedding and that of torch in float32.
        same_tags: share of the pictures that get the same five best tags, in any order.
    """

    compute: Compute
    pixels: Pixels
    pictures: int
    cosine: float
    same_tags: float


class Manifest(_Part):
    """What a bundle is made of, and what it was made from.

    Attributes:
        annotators: name in the bundle -> kind in the registry.
        fingerprints: sha256 of the corpus (ids, tags, embeddings) and of the configuration.
        metrics: figures on the validation part, by annotator and for the fusion ('fused').
        accuracy: the ways that were tried, from the fastest on; the last is the one taken.
        index: by annotator, the index that it searches: its kind, memory and recall.
        notes: what a user should know of the fit.
        files: path in the bundle -> sha256.
    """

    format: int = FORMAT
    vocabulary: str
    backbone: BackboneEntry
    limits: DecodeLimits
    annotators: dict[str, str]
    fingerprints: dict[str, str]
    metrics: dict[str, dict[str, float]]
    accuracy: tuple[Deviation, ...] = ()
    index: dict[str, IndexEntry] = {}
    notes: tuple[str, ...] = ()
    files: dict[str, str] = {}

    @property
    def id(self) -> str:
        """The bundle's id: a digest of all it says, and so of every file in it."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()[:16]


def read_manifest(content: bytes | None, folder: str) -> Manifest:
    """What the manifest of a bundle says; None: there is no such file in `folder`.

    Raises:
        BundleError: there is no bundle, it is of another format, or its manifest was changed.
    """
    if content is None:
        raise BundleError(
            f"{folder}: no bundle there ({MANIFEST} is missing); make one with "
            "'tagloom fit --corpus PATH --out BUNDLE', or use '--bundle imagenet'"
        )
    path = f"{folder}/{MANIFEST}"
    try:
        text = content.decode()
        said = json.loads(text)
        said.pop("id", None)
        if said.get("format") != FORMAT:
            raise BundleError(
                f"{path}: bundle format {said.get('format')!r}, but this version reads "
                f"{FORMAT}; fit the bundle again"
            )
        manifest = Manifest.model_validate(said)
    except (ValueError, TypeError, AttributeError) as error:
        raise BundleError(
            f"{path}: not a bundle's manifest ({str(error).splitlines()[0]}); copy the bundle "
            "again from where it was made, or fit it again"
        ) from error
    if text != manifest_text(manifest):
        raise BundleError(
            f"{path}: was changed since the bundle was made (it is not what its id '{manifest.id}' "
            "stands for); copy the bundle again, or fit it again"
        )
    outside = [name for name in manifest.files if not _is_within(PurePosixPath(name))]
    if outside:
        raise BundleError(f"{path}: names {outside}, outside the bundle; do not use this bundle")
    return manifest


def _is_within(name: PurePosixPath) -> bool:
    return not name.is_absolute() and ".." not in name.parts


def manifest_text(manifest: Manifest) -> str:
    """The file's content, its id first."""
    content = {"id": manifest.id, **json.loads(manifest.model_dump_json())}
    return json.dumps(content, indent=1, ensure_ascii=False)
