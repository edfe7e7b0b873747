"""Opens the bundle that a command names: a folder, a URL, or ImageNet's classes."""

from pathlib import Path

from engine.bundle import Bundle
from engine.storage.bundles import open_at
from engine.storage.files import is_remote
from jobs.console import Console


def open_bundle(name: str, console: Console) -> Bundle:
    """Open a bundle's folder or URL, or make the bundle of ImageNet's classes if that is meant.

    Raises:
        BundleError: it cannot be used here.
        ConfigError: the store at its URL does not give it.
    """
    if not is_remote(name) and not Path(name).exists():
        # Here, not above: it imports what makes bundles, torch and all.
        from engine import pretrained

        if name == pretrained.NAME:
            folder = Path.home() / ".cache" / "tagloom" / "bundles" / name
            with console.waiting("preparing the ImageNet bundle"):
                pretrained.write_imagenet_bundle(folder)
            name = str(folder)
    bundle = open_at(name)
    bundle.check_backbone()
    return bundle
