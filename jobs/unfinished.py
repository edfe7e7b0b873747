"""What a fit has made so far, kept until its bundle is whole, so that the same command goes on."""

import hashlib
import io
import tarfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from pydantic import BaseModel, ConfigDict

from engine.errors import ConfigError, CorpusError
from engine.storage.files import shown
from jobs.console import Console
from jobs.job import noted
from jobs.lease import LEASE, held
from jobs.scratch import check_scratch, made_for, scratch_for
from jobs.sink import finished_parts
from jobs.source import SCRATCH
from jobs.store import Store, absolute

JOB = "fit.json"
SUFFIX = ".unfinished"


class Begun(BaseModel):
    """What two fits must share for one to go on with what the other made.

    What they learn from it may differ: each training is kept by what it learns.

    Attributes:
        fingerprint: of the corpus as it was listed.
        embedding: of the settings that decide how it is embedded.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    corpus: str
    fingerprint: str
    embedding: str


@dataclass
class Unfinished:
    """A fit under way.

    Attributes:
        kept: holds what is not to be made again: embedded parts, and the folders that were `keep`t.
        work: a folder that all workers see, whose files are mapped into memory; the same place
            where that can be.
        earlier: what an earlier run noted there.
        is_claimed: whether what is there is this fit's.
    """

    kept: Store
    work: Store
    earlier: Begun | None
    is_claimed: bool = False

    def claim(self, job: Begun, overwrite: bool) -> None:
        """Note whose it is; what another fit left goes if that may be overwritten.

        Raises:
            ConfigError: it may not.
        """
        if self.earlier is not None and self.earlier != job:
            if not overwrite:
                raise ConfigError(
                    f"{shown(self.kept.url)}: holds what a fit that did not end had made of "
                    f"{self._what_differs(job)}; run that one again to go on with it, or delete "
                    "it, or give --overwrite"
                )
            self.clear(SCRATCH)
        self.kept.write(JOB, job.model_dump_json(indent=1).encode())
        self.is_claimed = True

    def keep(self, name: str, parts: Sequence[str] = (".",)) -> None:
        """Keep some of what is in a folder of `work`, as it is now."""
        if self.kept.url == self.work.url:
            return
        data = io.BytesIO()
        with tarfile.open(fileobj=data, mode="w") as archive:
            for part in parts:
                archive.add(self.work.path(f"{name}/{part}"), arcname=part)
        self.kept.write(f"{name}.tar", data.getvalue())

    def restore(self, name: str) -> Path:
        """Where a folder lies in `work`, with what was kept of it, if anything was."""
        folder = Path(self.work.path(name))
        if not folder.exists() and self.kept.is_file(f"{name}.tar"):
            folder.mkdir(parents=True)
            with tarfile.open(fileobj=io.BytesIO(self.kept.read(f"{name}.tar"))) as archive:
                archive.extractall(folder, filter="data")
        return folder

    def clear(self, *but: str) -> None:
        """Remove all that is kept, but what is named."""
        self.kept.sweep()
        for name in self.kept.names():
            if name not in (LEASE, *but):
                self.kept.remove(name)

    def _what_differs(self, job: Begun) -> str:
        assert self.earlier is not None
        if self.earlier.corpus != job.corpus:
            return f"another corpus, {self.earlier.corpus}"
        if self.earlier.fingerprint != job.fingerprint:
            return "this corpus before it changed"
        return "it by other settings of how pictures are embedded, or by another version"


@contextmanager
def unfinished(
    out: str, console: Console, checkpoints: str | None = None, scratch: str | None = None
) -> Iterator[Unfinished]:
    """What a fit for the bundle `out` has made so far; gone when the block ends well.

    It stays when the fit is stopped, by whatever; of a corpus or settings that cannot be learned
    from, nothing stays.

    Args:
        checkpoints: path or URL of the place where it is kept; None: in `scratch`, or beside `out`.
        scratch: see `jobs.scratch.scratch_for`.

    Raises:
        ConfigError: something else is there, another fit is at it, or it cannot be written to.
    """
    kept = Store(checkpoints or _place(out, scratch))
    noted(kept, JOB, Begun, (SCRATCH,), "unfinished fit")
    working = scratch if checkpoints else None
    with made_for(kept), _working_folder(kept, out, working) as work:
        with held(kept, console):
            fit = Unfinished(kept, work, noted(kept, JOB, Begun, (SCRATCH,), "unfinished fit"))
            try:
                yield fit
            except (ConfigError, CorpusError) as error:
                if fit.earlier is None and not (isinstance(error, ConfigError) and _is_begun(kept)):
                    fit.clear()
                elif fit.is_claimed:
                    _tell(kept, console)
                raise
            except BaseException:
                _tell(kept, console)
                raise
            fit.clear()
        kept.remove_if_empty()


def _is_begun(kept: Store) -> bool:
    return any(True for _ in finished_parts(kept))


def _tell(kept: Store, console: Console) -> None:
    console.say(f"what was made is at {shown(kept.url)}; the same command goes on with it")


def _place(out: str, scratch: str | None) -> str:
    if scratch is None:
        return f"{out.rstrip('/')}{SUFFIX}"
    check_scratch(scratch)
    # Several bundles of one name may be in the making there.
    whose = hashlib.sha256(absolute(out).encode()).hexdigest()[:8]
    return f"{scratch.rstrip('/')}/{PurePosixPath(out).name}-{whose}{SUFFIX}"


@contextmanager
def _working_folder(kept: Store, out: str, scratch: str | None) -> Iterator[Store]:
    if scratch is None and kept.is_local:
        yield kept
    else:
        with scratch_for(out, scratch) as work:
            yield Store(work)
