"""Vocabulary rules on a fitted bundle: which tags it gives, by what names, and what raises them."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from engine.errors import ConfigError
from engine.vocab import Vocabulary, normalise_tag
from engine.vocabulary_rules import VocabularyRules


@dataclass(frozen=True)
class Tagging:
    """What a bundle's places on the V axis are given as.

    Attributes:
        tags: the name of each place.
        counts: training pictures that are known to carry each: of its own, of an alias or of what
            implies it, the most that any one of them has; how many share two is not known.
        sources: place -> the places whose scores it takes, if theirs are higher: those of its
            aliases, and of what implies it.
        folded: places that are given as others and never as themselves, ascending.
        allowed: the places that may be given, ascending; None: all.
        rules: what was applied, by which more names are understood.
    """

    tags: tuple[str, ...]
    counts: tuple[int, ...]
    sources: tuple[tuple[int, tuple[int, ...]], ...]
    folded: tuple[int, ...]
    allowed: tuple[int, ...] | None
    rules: VocabularyRules

    @classmethod
    def of(cls, vocabulary: Vocabulary, own: VocabularyRules, more: VocabularyRules) -> "Tagging":
        """Apply to a bundle's vocabulary.

        Args:
            own: the rules that it was fitted with; what they left out it has not.
            more: further rules, as if the bundle had been fitted with them.

        Raises:
            ConfigError: `more` names what the bundle does not know, or leaves no tag.
        """
        index = vocabulary.index
        known = dict.fromkeys((*vocabulary.tags, *own.aliases))
        more.without(own).check(known, "the bundle", base=own)
        rules = more.over(own)
        names = tuple(rules.canonical(tag) for tag in vocabulary.tags)
        place_of: dict[str, int] = {}
        for place, name in enumerate(names):
            # The tag itself holds its name; of aliases of a tag that is not there, the first does.
            if name == vocabulary.tags[place] or rules.canonical(name) not in index:
                place_of.setdefault(name, place)
        raised: dict[int, dict[int, None]] = {}
        folded = []
        for place, name in enumerate(names):
            target = place_of[name]
            if target != place:
                folded.append(place)
                raised.setdefault(target, {})[place] = None
            for implied in rules.implications.get(name, ()):
                if implied in place_of:
                    raised.setdefault(place_of[implied], {})[place] = None
        counts = list(vocabulary.counts)
        for place, sources in raised.items():
            counts[place] = max(vocabulary.counts[one] for one in (place, *sources))
        gone = set(folded)
        # A bundle may hold tags that no picture carried, and gives them if nothing is asked for.
        least = more.min_count if more.min_count > 1 else 0
        gone.update(place for place, count in enumerate(counts) if count < least)
        kept = [n for n, name in enumerate(names) if n not in gone and rules.allows(name)]
        kept = sorted(sorted(kept, key=lambda place: -counts[place])[: more.max_tags])
        if not kept:
            raise ConfigError(
                "vocabulary: the rules leave none of the bundle's tags; name other tags in "
                "include, exclude or min_count"
            )
        return cls(
            names,
            tuple(counts),
            tuple((target, tuple(one)) for target, one in sorted(raised.items())),
            tuple(folded),
            None if len(kept) == len(names) else tuple(kept),
            rules,
        )

    @cached_property
    def index(self) -> dict[str, int]:
        """The places that may be given, by name."""
        places = range(len(self.tags)) if self.allowed is None else self.allowed
        return {self.tags[place]: place for place in places}

    @cached_property
    def frequent_first(self) -> tuple[int, ...]:
        """The places that may be given, those with the most training pictures first."""
        return tuple(sorted(self.index.values(), key=lambda place: -self.counts[place]))

    @cached_property
    def groups(self) -> dict[str, tuple[int, ...]]:
        """The places that may be given of each group's members."""
        found = {}
        for group in self.rules.groups:
            patterns = self.rules.patterns((group,))
            found[group] = tuple(n for tag, n in self.index.items() if patterns.matches(tag))
        return found

    def places(self, name: str) -> tuple[int, ...]:
        """The places that may be given and that a name means: of a tag, an alias or a group."""
        name = normalise_tag(name)
        if name in self.groups:
            return self.groups[name]
        place = self.index.get(self.rules.canonical(name))
        return () if place is None else (place,)

    def among(self, places: Iterable[int] | None) -> tuple[int, ...] | None:
        """Those of some places that may be given, ascending; None: all."""
        if places is None:
            return self.allowed
        return tuple(sorted(set(places) & set(self.index.values())))

    def raised(self, scores_BV: NDArray[np.float32]) -> NDArray[np.float32]:
        """Scores in which each tag has at least that of its aliases and of what implies it."""
        if not self.sources:
            return scores_BV
        raised_BV = scores_BV.copy()
        for place, sources in self.sources:
            raised_BV[:, place] = scores_BV[:, [place, *sources]].max(axis=1)
        # NaN says that there are no scores.
        raised_BV[:, list(self.folded)] = np.minimum(raised_BV[:, list(self.folded)], 0)
        return raised_BV

    def origins(
        self, scores_BV: NDArray[np.float32], places_BK: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        """The places whose scores the tags given have: int64 [B, K]; ties go to the tag itself."""
        origins_BK = places_BK.copy()
        for place, sources in self.sources:
            candidates = np.array([place, *sources], dtype=np.int64)
            best_B = candidates[scores_BV[:, candidates].argmax(axis=1)]
            origins_BK = np.where(places_BK == place, best_B[:, None], origins_BK)
        return origins_BK
