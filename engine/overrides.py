"""One `--set a.b=c`, put into the nested settings that a file or the defaults gave."""

from collections.abc import Callable

from engine.errors import ConfigError


def override_setting(
    content: dict[str, object], override: str, read: Callable[[str], object]
) -> None:
    """Put an override's value where its dotted key says, in place.

    Args:
        read: makes the value of the text behind '='.

    Raises:
        ConfigError: it is not `name=value`, or leads through a key that holds a value.
    """
    key, separator, text = override.partition("=")
    if not separator or not key.strip():
        raise ConfigError(f"--set {override!r}: write it as section.key=value or name=value")
    *sections, last = key.strip().split(".")
    place = content
    for section in sections:
        inner = place.setdefault(section, {})
        if not isinstance(inner, dict):
            raise ConfigError(f"--set {override!r}: '{section}' is a value, not a section")
        place = inner
    place[last] = read(text)
