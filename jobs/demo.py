"""`tagloom demo`: every job once, one after the other, from a corpus to a gallery."""

import shutil
from importlib.resources import as_file, files
from pathlib import Path

from engine import pretrained
from engine.config import FitConfig
from engine.errors import ConfigError
from jobs.annotate import annotate
from jobs.console import Console
from jobs.corpus import draw_corpus, split_corpus
from jobs.evaluate import Evaluation, evaluate, show
from jobs.fit import fit
from jobs.gallery import write_gallery
from jobs.session import ray_session

MARK = ".tagloom-demo"
"""Says that a folder is a demo's own, to be replaced by the next one."""

PHOTOS = {
    "skimage.data": (
        "astronaut.png",
        "camera.png",
        "chelsea.png",
        "coffee.png",
        "hubble_deep_field.jpg",
        "moon.png",
        "motorcycle_left.png",
        "rocket.jpg",
    ),
    "sklearn.datasets.images": ("china.jpg", "flower.jpg"),
}
"""Real photos that two libraries ship."""


def run_demo(out: Path, corpus: str | None, images: int, console: Console) -> Evaluation:
    """Split a corpus (by default one that is drawn now), learn from nine tenths, tag the rest.

    Ends with the photos of `PHOTOS`, tagged with ImageNet's classes, in the same gallery.

    Raises:
        TagloomError: `out` is not a demo's, or the corpus is not as it must be.
    """
    if out.is_dir() and any(out.iterdir()) and not (out / MARK).exists():
        raise ConfigError(f"{out}: is there already and no demo's; name another folder")
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    (out / MARK).touch()
    if corpus is None:
        console.say("1. drawing the sample corpus")
        corpus = str(out / "corpus")
        draw_corpus(out / "corpus", images, 0, console)
    console.say(f"2. holding out a tenth of {corpus}")
    split_corpus(corpus, out / "split", 0.1, 0, console)
    bundle, unseen = out / "bundle", str(out / "split" / "test")
    with ray_session():
        console.say("3. learning from the rest")
        fit(str(out / "split" / "train"), bundle, FitConfig(), console)
        console.say("4. tagging the pictures held out")
        annotate(unseen, str(bundle), str(out / "tagged"), 5, console)
        console.say("5. measuring on them")
        result = evaluate(str(bundle), unseen, out / "evaluation", 5, console)
        show(result, console)
        console.say("6. tagging real photos with ImageNet's classes")
        _copy_photos(out / "photos")
        annotate(str(out / "photos"), pretrained.NAME, str(out / "tagged-photos"), "auto", console)
    page = out / "gallery.html"
    outputs = [str(out / "tagged"), str(out / "tagged-photos")]
    write_gallery(outputs, page, 60, console, "tagloom demo")
    console.say(f"7. done: open {page.absolute()} in a browser")
    return result


def _copy_photos(folder: Path) -> None:
    folder.mkdir()
    for package, names in PHOTOS.items():
        for name in names:
            with as_file(files(package) / name) as path:
                shutil.copy(path, folder / name)
