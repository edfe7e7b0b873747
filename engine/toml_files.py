"""TOML files and values, and what is wrong with what they hold, by the names of their keys."""

import tomllib
from pathlib import Path

from pydantic import ValidationError

from engine.errors import ConfigError

_OURS = "Value error, "
"""What pydantic writes before a message of this project."""


def read_toml(path: Path) -> dict[str, object]:
    """The content of a TOML file.

    Raises:
        ConfigError: it cannot be read, or is not TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read ({error})") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: not TOML ({error})") from error


def refusal(path: Path | None, error: ValidationError) -> ConfigError:
    """What is wrong with a configuration, by the names of its keys."""
    problems = "; ".join(
        ": ".join(
            (*filter(None, [".".join(map(str, item["loc"]))]), item["msg"].removeprefix(_OURS))
        )
        for item in error.errors()
    )
    return ConfigError(f"{path or 'configuration'}: {problems}")


def toml_value(text: str) -> object:
    """A value as TOML has it, or the text itself where it is none."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text
