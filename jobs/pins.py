"""What a submitted job is to find on the cluster: packages of one version each, and variables."""

import os
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from engine.errors import ConfigError

PROGRAM = "tagloom"


def requirement_lines(requirements: Path) -> list[str]:
    """The lines of a file of packages, a continued line as one.

    Raises:
        ConfigError: it cannot be read.
    """
    try:
        text = requirements.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"--requirements {requirements}: cannot be read ({error}); name a file of packages"
        ) from error
    return text.replace("\\\n", " ").splitlines()


def pinned(lines: Iterable[str]) -> list[str]:
    """Packages as pip's requirements are written, each of one version.

    Raises:
        ConfigError: one is not of one version, so that two nodes might get two.
    """
    found = []
    for line in lines:
        text = line.partition(" #")[0].strip()
        if not text or text.startswith("#"):
            continue
        if not text.startswith("-"):
            _check_pinned(text)
        found.append(text)
    return found


def _check_pinned(text: str) -> None:
    mend = "write NAME==VERSION, so that all nodes install the same"
    try:
        # What follows are pip's own options, such as hashes.
        wanted = Requirement(text.partition(" --")[0])
    except InvalidRequirement as error:
        raise ConfigError(f"'{text}' is no package ({error}); {mend}") from error
    exact = [one for one in wanted.specifier if one.operator in ("==", "===")]
    if wanted.url is None and (len(exact) != 1 or exact[0].version.endswith("*")):
        raise ConfigError(f"'{text}' is not of one version; {mend}")


def installed() -> list[str]:
    """What this program needs, in the versions that are installed here, Ray aside.

    Raises:
        ConfigError: the program is not installed here as a package.
    """
    # Either index of the extras: whichever is here.
    todo = [(PROGRAM, frozenset({"cpu", "gpu"}))]
    seen = set(todo)
    versions = {}
    while todo:
        name, extras = todo.pop()
        try:
            package = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            continue
        versions[name] = package.version
        for wanted in map(Requirement, package.requires or ()):
            asked = any(
                wanted.marker is None or wanted.marker.evaluate({"extra": extra})
                for extra in ("", *extras)
            )
            entry = (canonicalize_name(wanted.name), frozenset(wanted.extras))
            # The cluster has a Ray of its own, with what that needs.
            if asked and entry not in seen and entry[0] != "ray":
                seen.add(entry)
                todo.append(entry)
    if PROGRAM not in versions:
        raise ConfigError(
            f"--install: {PROGRAM} is not installed here as a package; run 'pip install -e .' in "
            "its folder, or give --requirements"
        )
    return [f"{name}=={version}" for name, version in sorted(versions.items()) if name != PROGRAM]


def variables(given: Iterable[str]) -> dict[str, str]:
    """Read `NAME=VALUE`; a NAME alone is taken from this process's environment.

    Raises:
        ConfigError: it is neither.
    """
    found = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not name.isidentifier():
            # Not told whole: what stands there may be a secret.
            raise ConfigError("--env is written as NAME=VALUE, or as the NAME of what is set here")
        if not equals and name not in os.environ:
            raise ConfigError(f"--env {name}: is not set here; set it, or write {name}=VALUE")
        found[name] = value if equals else os.environ[name]
    return found
