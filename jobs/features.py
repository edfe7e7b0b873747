"""`tagloom features`: a picture shown as its features, and the features of a corpus as Parquet."""

from collections import Counter
from itertools import chain
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from engine import schema
from engine.errors import ConfigError, CorpusError
from engine.feature_stages import FOLDER, feature_columns_stage
from engine.features import FEATURES
from engine.features.describer import Describer
from engine.features.picture import SIDE
from engine.geometry import Geometry
from engine.image import DecodeLimits, ImageError, decode
from engine.picture_stages import decode_stage
from engine.stage import Plan
from engine.storage.bundles import open_at
from jobs.chart import check_drawing
from jobs.chunks import Inventory
from jobs.console import Console
from jobs.describing import describer_folder, ensure_describer
from jobs.job import check_apart, noted
from jobs.lease import held
from jobs.runner import RunSettings, in_worker, run_plan
from jobs.scratch import shared_folder
from jobs.session import ray_session
from jobs.sink import finished_parts
from jobs.source import SCRATCH, take_inventory
from jobs.store import Store, absolute

JOB = "features-job.json"
_OWN = (SCRATCH, FOLDER)
GEOMETRY = Geometry(mode="squash", size=SIDE)


class Extraction(BaseModel):
    """Which corpus an output is of; a run may go on only with the same one's."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    input: str
    fingerprint: str


class Described(BaseModel):
    """What became of a corpus: pictures described, and those that failed by code."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    rows: int
    described: int
    errors: dict[str, int]
    features: dict[str, int]


def show_features(picture: Path, out: Path, bundle: str | None) -> Path:
    """Draw a picture's features into a PNG file.

    Args:
        bundle: whose codebooks name the visual words; None: none are named.

    Raises:
        ConfigError: the picture cannot be read, the figure cannot be written, or the bundle has
            no describer.
    """
    check_drawing()
    # Here, not above: Matplotlib is optional, and corpora are described without it.
    from jobs.portrait import draw_portrait

    if out.suffix.lower() != ".png":
        raise ConfigError(f"{out}: the figure is a PNG; name a file that ends in .png")
    describer = None
    if bundle is not None:
        describer = Describer.load(open_at(bundle).folder / FOLDER)
    try:
        pixels_HWC = decode(picture.read_bytes(), DecodeLimits())
    except (OSError, ImageError) as error:
        raise ConfigError(f"{picture}: cannot be read as a picture ({error})") from error
    drawn = draw_portrait(pixels_HWC, picture.name, describer)
    Store(str(out.absolute().parent)).write(out.name, drawn)
    return out


def extract_features(
    corpus: str, out: str, console: Console, settings: RunSettings | None = None
) -> Described:
    """Describe every picture of a corpus into Parquet files, a column a feature.

    Args:
        out: a path or URL.

    The describer is learned from the corpus first and lies beside them. A run that was killed goes
    on with what it had made.

    Raises:
        TagloomError: the corpus or the target is not as it must be.
    """
    store = Store(out)
    source = absolute(corpus)
    check_apart(source, store)
    # Before anything is written there, and again when no other job can be at it.
    noted(store, JOB, Extraction, _OWN, "features")
    with held(store, console), shared_folder(store) as place:
        earlier = noted(store, JOB, Extraction, _OWN, "features")
        return _extract(source, store, place, earlier, console, settings or RunSettings())


def _extract(
    source: str,
    store: Store,
    place: Store,
    earlier: Extraction | None,
    console: Console,
    settings: RunSettings,
) -> Described:
    limits = DecodeLimits()
    try:
        with ray_session():
            with console.waiting("listing the corpus"):
                inventory = in_worker(take_inventory, source, store, is_corpus=True)
            assert isinstance(inventory, Inventory)
            job = Extraction(input=source, fingerprint=inventory.fingerprint)
            if earlier not in (None, job):
                raise ConfigError(
                    f"{store.url}: holds the features of another corpus, or of this one as it was "
                    "before it changed; name a new folder"
                )
            if place is not store and earlier is not None:
                store.get_folder(FOLDER, describer_folder(place))
            folder = ensure_describer(inventory, place, limits, GEOMETRY, console)
            if place is not store and earlier is None:
                # Whole before the job is noted.
                store.put_folder(folder, FOLDER)
            store.write(JOB, job.model_dump_json(indent=1).encode())
            names = tuple(schema.feature_column(name) for name in FEATURES)
            stages = (decode_stage(limits, GEOMETRY, None), feature_columns_stage(folder))
            errors = _run(Plan(stages, names), inventory, store, console, settings, limits)
    except (ConfigError, CorpusError):
        if earlier is None:
            store.remove(SCRATCH)
        raise
    store.remove(SCRATCH)
    return Described(
        rows=inventory.rows,
        described=inventory.rows - errors.total(),
        errors=dict(sorted(errors.items())),
        features=dict(FEATURES),
    )


def _run(
    plan: Plan,
    inventory: Inventory,
    store: Store,
    console: Console,
    settings: RunSettings,
    limits: DecodeLimits,
) -> Counter[str]:
    """Errors by code of all the parts, made now or before."""
    errors: Counter[str] = Counter()
    done = {receipt.chunk: receipt for receipt in finished_parts(store)}
    with console.progress("describing", inventory.rows) as advance:
        made = run_plan(
            plan,
            inventory,
            frozenset(done),
            store,
            settings,
            limits.max_bytes,
        )
        for receipt in chain(done.values(), made):
            advance(receipt.rows, receipt.failed)
            errors.update(receipt.errors)
    store.sweep()
    return errors
