"""What results depend on, as digests: the settings that decide embeddings, the engine's source."""

import hashlib
import json
from importlib import metadata
from pathlib import Path

import engine
from engine.columns import wanted_columns
from engine.config import FitConfig


def digest_of(content: object) -> str:
    """SHA-256 of what can be JSON, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def embedding_identity(config: FitConfig) -> list[object]:
    """All but the pictures that decides what embedding a corpus gives, as JSON."""
    settled = config.model_dump(mode="json", include={"embed", "decode", "max_failed"})
    # What decides how pictures are annotated later, not what is learned from them.
    looks = {**settled, "embed": {**settled["embed"], "accuracy": None, "pixels": None}}
    state = engine_state("embed", "image", "geometry", "features", "feature_stages")
    return [looks, list(wanted_columns(config)), config.wants_pixels, state]


def engine_state(*modules: str) -> str:
    """A digest of the version and of the engine's source, in all or in the named modules."""
    root = Path(engine.__file__).parent
    digest = hashlib.sha256(metadata.version("tagloom").encode())
    for path in sorted(root.rglob("*.py")):
        name = path.relative_to(root).as_posix()
        if not modules or name.split("/")[0].removesuffix(".py") in modules:
            digest.update(name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]
