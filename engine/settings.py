"""What every section of a configuration is: frozen, checked, and laid over its owner's defaults."""

from collections.abc import Mapping

from pydantic import BaseModel, ConfigDict, model_validator


class Settings(BaseModel):
    """Settings whose sections, given in part, keep what their owner says of the rest.

    An owner's default for a section may differ from that of the section's class, as each method's
    `optimisation` does. A mapping is laid over the owner's, at any depth; an instance is whole, and
    takes its place.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _over_the_defaults(cls, given: object) -> object:
        if not isinstance(given, Mapping):
            return given
        sections = {name: field.default for name, field in cls.model_fields.items()}
        return _laid_over(cls, sections, given)


def _laid_over(
    owner: type[BaseModel], own: Mapping[str, object], given: Mapping[str, object]
) -> dict[str, object]:
    """What is given to an owner, its sections completed by its own values of these."""
    laid = dict(given)
    for name, field in owner.model_fields.items():
        key = field.alias if field.alias in laid else name
        section, above = own[name], laid.get(key)
        if isinstance(section, BaseModel) and isinstance(above, Mapping):
            laid[key] = _whole(section, above)
    return laid


def _whole(section: BaseModel, above: Mapping[str, object]) -> dict[str, object]:
    own = dict(section)
    laid = _laid_over(type(section), own, above)
    fields = type(section).model_fields.items()
    unsaid = {name for name, field in fields if not {name, field.alias} & laid.keys()}
    return laid | {name: own[name] for name in unsaid}
