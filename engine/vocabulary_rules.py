"""Which tags there are and what they are called: lists, aliases, groups and implied tags.

At fit the rules rewrite the tags that are learned from; without fitting again they change what a
bundle gives (`engine.tagging`). Doing either twice changes nothing.
"""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import cached_property
from typing import Annotated

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    PositiveInt,
    ValidationError,
    model_validator,
)

from engine.errors import ConfigError
from engine.vocab import Vocabulary, normalise_tag, normalise_tags

_SHOWN = 5


def _name(value: object) -> object:
    if not isinstance(value, str):
        return value
    name = normalise_tag(value)
    if not name:
        raise ValueError(f"{value!r} is no name of a tag")
    return name


def _listed(value: object) -> object:
    return (value,) if isinstance(value, str) else value


Name = Annotated[str, BeforeValidator(_name)]
Names = Annotated[tuple[Name, ...], BeforeValidator(_listed)]


class VocabularyRules(BaseModel):
    """Rules about tags; all names are normalised as tags are.

    In `include`, `exclude` and the members of a group, `*` stands for any characters, `?` for one.

    Attributes:
        include: only these tags, or groups of them; empty: any.
        exclude: none of these tags, or groups of them; this wins over all else.
        aliases: another name of a tag -> the tag.
        groups: name -> members, to be asked for by that name.
        implied: tag -> the tags that are true wherever it is.
        min_count: only tags that so many training pictures carry.
        max_tags: only so many, the most frequent ones.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    include: Names = ()
    exclude: Names = ()
    aliases: dict[Name, Name] = {}
    groups: dict[Name, Names] = {}
    implied: dict[Name, Names] = {}
    min_count: PositiveInt = 1
    max_tags: PositiveInt | None = None

    def __hash__(self) -> int:
        # The mappings cannot be hashed; whoever keeps bundles by what they are asked for needs it.
        return hash(self.model_dump_json())

    @model_validator(mode="after")
    def _no_cycles(self) -> "VocabularyRules":
        for kind, edges in (
            ("aliases", {name: (target,) for name, target in self.aliases.items()}),
            ("implied", self._edges),
        ):
            cycle = _cycle(edges)
            if cycle:
                raise ValueError(
                    f"{kind}: {' -> '.join(cycle)} goes round in a circle; take one of these out"
                )
        return self

    @property
    def rewrites(self) -> bool:
        """Whether tags change by the rules, beyond what is too rare."""
        return bool(self.include or self.exclude or self.aliases or self.implied)

    def canonical(self, name: str) -> str:
        """The tag that a normalised name stands for."""
        seen = {name}
        while name in self.aliases and self.aliases[name] not in seen:
            name = self.aliases[name]
            seen.add(name)
        return name

    @cached_property
    def _edges(self) -> dict[str, tuple[str, ...]]:
        """What each tag implies, by what the names stand for."""
        edges: dict[str, tuple[str, ...]] = {}
        for name, implied in self.implied.items():
            tag = self.canonical(name)
            targets = (*edges.get(tag, ()), *(self.canonical(one) for one in implied))
            edges[tag] = tuple(dict.fromkeys(targets))
        return edges

    @cached_property
    def implications(self) -> Mapping[str, tuple[str, ...]]:
        """Each tag that implies others, with all that follow, the nearest first."""
        found = {}
        for tag in self._edges:
            reached = dict.fromkeys(self._edges[tag])
            for one in (queue := list(reached)):
                news = [n for n in self._edges.get(one, ()) if n not in reached]
                reached |= dict.fromkeys(news)
                queue.extend(news)
            found[tag] = tuple(reached)
        return found

    def rewritten(self, tags: Iterable[str]) -> tuple[str, ...]:
        """A picture's tags by the rules: renamed, with what they imply behind them, and picked.

        The order of what was given stays.
        """
        own = tuple(dict.fromkeys(self.canonical(tag) for tag in normalise_tags(tags)))
        implied = (one for tag in own for one in self.implications.get(tag, ()))
        return tuple(tag for tag in dict.fromkeys((*own, *implied)) if self.allows(tag))

    def allows(self, tag: str) -> bool:
        """Whether a tag is on the lists."""
        is_included = not self.include or self._included.matches(tag)
        return is_included and not self._excluded.matches(tag)

    @cached_property
    def _included(self) -> "Patterns":
        return self.patterns(self.include)

    @cached_property
    def _excluded(self) -> "Patterns":
        return self.patterns(self.exclude)

    def patterns(self, names: Iterable[str]) -> "Patterns":
        """What matches the tags that some names mean."""
        members = [m for name in names for m in self.groups.get(name, (name,))]
        return Patterns([self.canonical(member) for member in members])

    def learn(
        self, tag_lists: Sequence[Sequence[str]], more_tags: Collection[str] = ()
    ) -> tuple[Vocabulary, Sequence[Sequence[str]]]:
        """The vocabulary of a corpus, and its pictures' tags by the rules.

        Args:
            more_tags: tags of the vocabulary that no picture need carry.

        Raises:
            ConfigError: a rule names what the corpus has not.
            CorpusError: fewer than two tags are left.
        """
        lists = tag_lists
        if self.rewrites or self.groups:
            known = dict.fromkeys(normalise_tags(more_tags))
            for tags in tag_lists:
                known.update(dict.fromkeys(normalise_tags(tags)))
            self.check(known, "the corpus")
            lists = [self.rewritten(tags) for tags in tag_lists]
        learned = Vocabulary.learn(lists, self.min_count, self.max_tags)
        more = [self.canonical(tag) for tag in normalise_tags(more_tags)]
        return learned.including(tag for tag in more if self.allows(tag)), lists

    def check(
        self, names: Iterable[str], where: str, base: "VocabularyRules | None" = None
    ) -> None:
        """See that the rules speak of what there is.

        Args:
            names: the tags there are, before any rule.
            where: they are, for the message.
            base: rules that were applied before these, and whose names are understood. Aliases and
                implications may then make no tags that are not there.

        Raises:
            ConfigError: a rule names something else, or a group has the name of a tag.
        """
        there = set(names)
        rules = self if base is None else self.over(base)
        self._refuse("aliases", (n for n in self.aliases if n not in there), where)
        tags = {rules.canonical(name) for name in there}
        edges = {rules.canonical(n): rules.implications[rules.canonical(n)] for n in self.implied}
        reached = {one for more in edges.values() for one in more}
        if base is None:
            tags |= reached
        mend = "" if base is None else ", or fit with these rules: a bundle has only its own tags"
        self._refuse("implied", sorted((edges.keys() | reached) - tags), where, mend)
        for group, members in self.groups.items():
            if group in tags or group in there:
                raise ConfigError(
                    f"vocabulary: groups: '{group}' is the name of a tag of {where} as well; give "
                    "the group another name"
                )
            unknown = [m for m in members if not rules.patterns((m,)).match_any(tags)]
            self._refuse(f"groups.{group}", unknown, where)
        for key, patterns in (("include", self.include), ("exclude", self.exclude)):
            lost = (p for p in patterns if not rules.patterns((p,)).match_any(tags))
            self._refuse(key, lost, where)

    @staticmethod
    def _refuse(key: str, unknown: Iterable[str], where: str, mend: str = "") -> None:
        names = list(unknown)
        if names:
            shown = ", ".join(f"'{name}'" for name in names[:_SHOWN])
            more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
            raise ConfigError(
                f"vocabulary: {key}: {shown}{more} matches no tag of {where}; correct the "
                f"spelling, or take it out{mend}"
            )

    def without(self, other: "VocabularyRules") -> "VocabularyRules":
        """These rules without those that `other` has as well."""
        own = set(other.include), set(other.exclude)
        return self.model_copy(
            update={
                "include": tuple(name for name in self.include if name not in own[0]),
                "exclude": tuple(name for name in self.exclude if name not in own[1]),
                **{
                    key: {
                        name: value
                        for name, value in getattr(self, key).items()
                        if getattr(other, key).get(name) != value
                    }
                    for key in ("aliases", "groups", "implied")
                },
            }
        )

    def over(self, other: "VocabularyRules") -> "VocabularyRules":
        """These rules with the aliases, groups and implied tags of `other` beneath them.

        Raises:
            ConfigError: together they go round in a circle.
        """
        implied = dict(other.implied)
        for name, tags in self.implied.items():
            implied[name] = (*implied.get(name, ()), *tags)
        content = self.model_dump() | {
            "aliases": {**other.aliases, **self.aliases},
            "groups": {**other.groups, **self.groups},
            "implied": implied,
        }
        try:
            return VocabularyRules(**content)
        except ValidationError as error:
            problem = error.errors()[0]["msg"]
            raise ConfigError(f"vocabulary, with the bundle's own rules: {problem}") from error


class Patterns:
    """Names with wildcards, to be matched by whole tags."""

    def __init__(self, names: Iterable[str]) -> None:
        self._exact: set[str] = set()
        loose = []
        for name in names:
            if set(name) & set("*?"):
                loose.append(re.escape(name).replace(r"\*", ".*").replace(r"\?", "."))
            else:
                self._exact.add(name)
        self._loose = re.compile("|".join(f"(?:{one})" for one in loose) or r"(?!)", re.DOTALL)

    def matches(self, tag: str) -> bool:
        """Whether a tag is one of these."""
        return tag in self._exact or self._loose.fullmatch(tag) is not None

    def match_any(self, tags: Collection[str]) -> bool:
        """Whether one of the tags is."""
        return not self._exact.isdisjoint(tags) or any(self._loose.fullmatch(t) for t in tags)


def _cycle(edges: Mapping[str, tuple[str, ...]]) -> list[str]:
    """Names that lead round to the first of them again; empty: there are none."""
    done: set[str] = set()
    for start in edges:
        path: list[str] = []
        # Depth first; an entry of None says that the last name of the path is done with.
        stack: list[str | None] = [start]
        while stack:
            name = stack.pop()
            if name is None:
                done.add(path.pop())
            elif name in path:
                return [*path[path.index(name) :], name]
            elif name not in done:
                path.append(name)
                stack.append(None)
                stack.extend(edges.get(name, ()))
    return []
