"""`tagloom profile`: adds up where the time of an annotate job went."""

import json
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from itertools import groupby
from operator import attrgetter

from engine.stage import FOLDING
from jobs.console import Console
from jobs.work import BESIDE, WRITING, Diary, Work

_LABELS = {
    "listing": "listing, while Ray starts",
    "starting workers": "starting workers and their imports",
    "reading": "reading (waited for)",
    "decode": "decoding",
    "resize": "resizing",
    "embed": "embedding",
    "fuse": "fusing",
    FOLDING: "between stages",
    "other": "between batches",
    "ray": "Ray's own share, between chunks",
    "waiting": "waiting for the last worker",
}


@dataclass(frozen=True)
class Profile:
    """Where the time of a job went.

    Attributes:
        wall: seconds from the command to the end.
        first: seconds from the command to the first written part.
        steady: pictures a second from the first part that Ray's workers wrote to the last; 0 with
            one part.
        seconds: worker-seconds by what they went into; they add up to `wall * workers`.
    """

    pictures: int
    workers: int
    wall: float
    first: float
    steady: float
    seconds: Mapping[str, float]

    def to_json(self) -> str:
        return json.dumps(asdict(self))


def summary(diary: Diary, pictures: int) -> Profile:
    """Add up a job's diary, whose works must be those of at least one worker."""
    # A plan in several segments writes with its last: the works of the others are no parts.
    works = _of_ray(diary)
    parts = sorted((work for work in works if WRITING in work.seconds), key=_ended)
    rest = parts[-1].ended - parts[0].ended
    after_first = sum(work.rows for work in parts[1:])
    early = [work.ended for work in diary.works if work.worker == BESIDE]
    return Profile(
        pictures,
        len({work.worker for work in works}),
        diary.marks[-1][1] - diary.began,
        min([parts[0].ended, *early]) - diary.began,
        after_first / rest if rest else 0.0,
        divide(diary),
    )


def _of_ray(diary: Diary) -> list[Work]:
    """The works but the one that was done while Ray started, if there are others."""
    return [work for work in diary.works if work.worker != BESIDE] or diary.works


def divide(diary: Diary) -> dict[str, float]:
    """Worker-seconds by what they went into; what the driver does costs each worker its time."""
    works = sorted(_of_ray(diary), key=attrgetter("worker"))
    by_worker = [
        sorted(own, key=attrgetter("began")) for _, own in groupby(works, key=attrgetter("worker"))
    ]
    spent: defaultdict[str, float] = defaultdict(float)
    begins = diary.began
    for phase, ended in diary.marks[:-1]:
        spent[phase] += (ended - begins) * len(by_worker)
        begins = ended
    last = max(map(_ended, works))
    for own in by_worker:
        free = begins
        for place, work in enumerate(own):
            spent["ray" if place else "starting workers"] += work.began - free
            for part, seconds in work.seconds.items():
                spent[part] += seconds
            spent["other"] += work.ended - work.began - sum(work.seconds.values())
            free = work.ended
        spent["waiting"] += last - free
    closing, ended = diary.marks[-1]
    spent[closing] += (ended - last) * len(by_worker)
    return dict(spent)


_ended = attrgetter("ended")


def show(found: Profile, console: Console) -> None:
    """Print it: worker-seconds, milliseconds a picture, and the share of the whole."""
    whole = found.wall * found.workers
    rows = [
        (
            _LABELS.get(part, part.removeprefix("score/")),
            f"{seconds:.2f}",
            f"{1000 * seconds / found.pictures:.2f}",
            f"{100 * seconds / whole:.1f}%",
        )
        for part, seconds in found.seconds.items()
    ]
    total = sum(found.seconds.values())
    rows.append(
        (
            "all",
            f"{total:.2f}",
            f"{1000 * total / found.pictures:.2f}",
            f"{100 * total / whole:.1f}%",
        )
    )
    title = f"{found.pictures:,} pictures, {found.workers} workers, {found.wall:.1f} s"
    console.table(title, ("", "worker-seconds", "ms a picture", "share"), rows)
    console.say(
        f"first part after {found.first:.1f} s; Ray's workers then do {found.steady:.1f} pictures/s"
    )
