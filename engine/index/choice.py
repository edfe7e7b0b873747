"""Which kind of index suits a number of vectors, their width and a memory budget, and why."""

import re
from dataclasses import dataclass, replace
from typing import Literal

from engine.errors import ConfigError

Kind = Literal["flat", "ivf-flat", "ivf-pq", "hnsw"]
"""FAISS's flat index; inverted lists of whole vectors, or of product-quantised ones; a graph."""

Store = Literal["none", "sq8", "fp16"]
"""In what form an 'ivf-pq' index keeps the vectors beside their codes, to rank by them anew."""

EXACT_UP_TO = 50_000
"""Vectors up to which a flat index is taken where it fits: exact, and fast enough."""

SAMPLES_A_LIST = 40
"""Vectors that k-means sees for each list; FAISS asks for 39 or more."""

PQ_LEAST = 10_000
"""Vectors below which there is no product quantiser: 256 centroids want 39 vectors each."""

CODES = 256
"""Centroids of each subspace of a product quantiser: what a byte can tell apart."""

ALIGNED = 256
"""Vectors that queries are multiplied with at a time; shards begin at multiples of it."""

FAISS_BLOCK = 1024
"""The same in FAISS's own search of flat indexes."""

HNSW_LINKS = 32
"""Links of a vector in a graph's lowest layer are twice as many."""

_STORE_BYTES: dict[Store, int] = {"none": 0, "sq8": 1, "fp16": 2}
_CODES: tuple[tuple[int, Store], ...] = (
    (2, "fp16"),
    (2, "sq8"),
    (2, "none"),
    (4, "none"),
    (8, "none"),
)
_ID = 8
# What FAISS needs whatever is stored: headers, and for each list the two vectors that hold it.
_FIXED, _LIST = 4096, 96
_UNITS = {"": 1, "b": 1} | {
    f"{prefix}{unit}": base**power
    for power, prefix in enumerate("kmgt", start=1)
    for unit, base in (("b", 1000), ("ib", 1024))
}


@dataclass(frozen=True)
class IndexWish:
    """What is asked of an index.

    Attributes:
        kind: 'auto' leaves the choice to `choose_plan`.
        max_bytes: of memory that the index may take, whether it is built, merged or searched;
            None: no limit.
        recall: share of the `nearest` nearest neighbours that it should find.
        nearest: k of that recall.
        seed: draws the training sample and the queries that recall is measured on.
        shard_bytes: of memory that a shard may take, of an index that stays in shards; None: it
            is one piece.
    """

    kind: Literal["auto"] | Kind = "auto"
    max_bytes: int | None = None
    recall: float = 0.98
    nearest: int = 100
    seed: int = 0
    shard_bytes: int | None = None


@dataclass(frozen=True)
class IndexPlan:
    """An index that is to be built.

    Attributes:
        width: of the vectors; `stored_width` is rounded up so that subspaces divide it.
        lists: inverted lists; 0 for other kinds.
        subspaces: of the product quantiser, a byte of code each.
        links: M of a graph.
        bytes: that it will take, estimated from above.
        sample: vectors that training may look at.
        reason: why this one.
    """

    kind: Kind
    count: int
    width: int
    lists: int = 0
    subspaces: int = 0
    store: Store = "none"
    links: int = 0
    bytes: int = 0
    sample: int = 0
    reason: str = ""

    @property
    def stored_width(self) -> int:
        return -(-self.width // 8) * 8 if self.kind == "ivf-pq" else self.width

    @property
    def is_merged(self) -> bool:
        """Whether parts of it can be built apart and put together."""
        return self.kind in ("ivf-flat", "ivf-pq")


def choose_plan(count: int, width: int, wish: IndexWish) -> IndexPlan:
    """Choose the index that is quickest to search at the recall wished for, among those that fit.

    The rule, of which the first that fits the budget is taken:

    1. flat up to `EXACT_UP_TO` vectors: exact, and all of them are looked at anyway;
    2. inverted lists of whole vectors: nothing but the choice of lists is approximate;
    3. a product quantiser with lists, and the vectors beside it in float16, by which the
       `k·factor` best are ranked anew; in eight bits; none, with codes of 1/2, 1/4 and 1/8 byte
       for each dimension;
    4. flat, if there are too few vectors to train a quantiser.

    A graph ('hnsw') is built where it is asked for by name, if it fits: it takes more memory than
    lists, cannot be built in parts, cannot lose a vector without being built anew, and was slower
    at the same recall wherever it was tried (100,000 vectors of 16, 32 and 128 dimensions).

    Raises:
        ConfigError: nothing fits the budget, or not the kind that was asked for; the message
            names the least budget that would do.
    """
    options = _options(count, width, wish)
    if not options:
        raise ConfigError(
            f"an index of kind '{wish.kind}' needs at least {PQ_LEAST:,} vectors, and there are "
            f"{count:,}; choose 'auto' or 'flat'"
        )
    for place, option in enumerate(options):
        if wish.max_bytes is None or _least_budget(option) <= wish.max_bytes:
            return _reasoned(option, options[:place], wish)
    least = min(_least_budget(option) for option in options)
    raise ConfigError(
        f"no index{'' if wish.kind == 'auto' else f' of kind {wish.kind}'} of {count:,} vectors "
        f"of {width} dimensions fits the memory budget of {wish.max_bytes:,} bytes; the least "
        f"that would do is {least:,} bytes ({spell_memory(least)}): raise --max-index-memory, "
        "or keep fewer dimensions"
    )


def _least_budget(plan: IndexPlan) -> int:
    """What a plan needs with a single list, and with the smallest sample to train on."""
    if plan.lists == 0:
        return plan.bytes
    least = CODES if plan.subspaces else SAMPLES_A_LIST
    return max(_sized(replace(plan, lists=1)).bytes, _training_bytes(least, plan.width))


def _options(count: int, width: int, wish: IndexWish) -> list[IndexPlan]:
    """All that could be built, the best first, whether it fits or not."""
    flat = IndexPlan("flat", count, width)
    lists = max(1, int(4 * count**0.5))
    options = [IndexPlan("ivf-flat", count, width, lists)]
    if count >= PQ_LEAST:
        padded = -(-width // 8) * 8
        options += [
            IndexPlan("ivf-pq", count, width, lists, padded // share, store)
            for share, store in _CODES
        ]
    options = [flat, *options] if count <= EXACT_UP_TO else [*options, flat]
    options.append(IndexPlan("hnsw", count, width, links=HNSW_LINKS))
    wanted = {"flat", "ivf-flat", "ivf-pq"} if wish.kind == "auto" else {wish.kind}
    return [_trained(_sized(one), wish) for one in options if one.kind in wanted]


def _trained(plan: IndexPlan, wish: IndexWish) -> IndexPlan:
    """The plan with as many lists, up to 4·sqrt(N), as its training and the budgets have room for.

    The sample lies in memory together with its residuals. Every shard has the centres of all the
    lists: they may take a quarter of it.
    """
    if plan.lists == 0:
        return plan
    budgets = [limit for limit in (wish.max_bytes, wish.shard_bytes) if limit is not None]
    most = min([plan.count, *(limit // _training_bytes(1, plan.width) for limit in budgets)])
    lists = plan.lists
    one = _sized(replace(plan, lists=1)).bytes
    each = _sized(replace(plan, lists=2)).bytes - one
    if wish.max_bytes is not None:
        lists = min(lists, 1 + max(0, wish.max_bytes - one) // each)
    if wish.shard_bytes is not None:
        lists = min(lists, wish.shard_bytes // (4 * each))
    lists = max(1, min(lists, most // SAMPLES_A_LIST))
    sample = min(most, max(SAMPLES_A_LIST * lists, CODES * 40 if plan.subspaces else 0))
    return _sized(replace(plan, lists=lists, sample=sample))


def _training_bytes(sample: int, width: int) -> int:
    return 8 * sample * (width + 8)


def _sized(plan: IndexPlan) -> IndexPlan:
    """The same plan with the bytes that it takes, from above.

    Vectors are 4 bytes a dimension, codes one a subspace, an id 8; a list is its centroid and two
    C++ vectors; a graph has 2·M links of 4 bytes in its lowest layer, and in those above, which
    1 in M reaches, M more.
    """
    width = plan.stored_width
    whole = 4 * width
    each = whole if plan.kind in ("flat", "ivf-flat", "hnsw") else plan.subspaces
    fixed = _FIXED
    if plan.lists:
        each += _ID
        fixed += plan.lists * (whole + _LIST)
    if plan.subspaces:
        each += _STORE_BYTES[plan.store] * width
        fixed += CODES * whole + 8 * width
    if plan.links:
        each += 8 * plan.links + 28
    return replace(plan, bytes=plan.count * each + fixed)


def _reasoned(plan: IndexPlan, passed: list[IndexPlan], wish: IndexWish) -> IndexPlan:
    budget = "no memory budget"
    if wish.max_bytes is not None:
        budget = f"a memory budget of {spell_memory(wish.max_bytes)}"
    reason = (
        f"{describe(plan)} for {plan.count:,} vectors of {plan.width} dimensions under {budget}: "
        f"it takes at most {spell_memory(plan.bytes)}"
    )
    if wish.kind != "auto":
        reason += "; the kind was asked for"
    elif plan.kind == "flat" and plan.count <= EXACT_UP_TO:
        reason += f", and up to {EXACT_UP_TO:,} vectors exact search is quick enough"
    if passed:
        over = passed[0]
        reason += f" ({describe(over)} would take {spell_memory(over.bytes)})"
    return replace(plan, reason=reason)


def describe(plan: IndexPlan) -> str:
    """A plan in a few words."""
    if plan.kind == "flat":
        return "a flat index"
    if plan.kind == "hnsw":
        return f"a graph (HNSW) of {plan.links} links"
    if plan.kind == "ivf-flat":
        return f"{plan.lists:,} inverted lists of whole vectors"
    store = {"none": "", "sq8": ", re-ranked in 8 bits", "fp16": ", re-ranked in float16"}
    return f"{plan.lists:,} inverted lists of {plan.subspaces}-byte codes{store[plan.store]}"


def shard_rows(plan: IndexPlan, shard_bytes: int) -> int:
    """How many vectors of a plan a shard has, so that it takes no more than `shard_bytes`.

    Shards begin where FAISS's blocks or ours do: products are then what they are in one piece.

    Raises:
        ConfigError: not even the fewest fit.
    """
    fixed = _sized(replace(plan, count=0)).bytes
    each = _sized(replace(plan, count=1)).bytes - fixed
    rows = max(0, shard_bytes - fixed) // each
    step = FAISS_BLOCK if rows >= FAISS_BLOCK else ALIGNED
    aligned = rows // step * step
    if aligned == 0 and rows < plan.count:
        least = fixed + ALIGNED * each
        raise ConfigError(
            f"no shard of {describe(plan)} of {plan.width} dimensions fits {shard_bytes:,} bytes; "
            f"the least that would do is {least:,} bytes ({spell_memory(least)}): raise "
            "--max-shard-memory"
        )
    return max(1, rows if rows >= plan.count else aligned)


def parse_memory(text: str) -> int:
    """Bytes that a size such as '512MB' (10^6), '2GiB' (2^30) or '1000000' stands for.

    Raises:
        ConfigError: it is none.
    """
    matched = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([a-z]*)", text.strip().lower())
    unit = matched and _UNITS.get(matched[2])
    if not matched or not unit or float(matched[1]) * unit < 1:
        raise ConfigError(
            f"'{text}' is no amount of memory; write a number with B, KB, MB, GB, TB or KiB, MiB, "
            "GiB, TiB, such as 512MB"
        )
    return int(float(matched[1]) * unit)


def memory_size(value: object) -> object:
    """For a pydantic field: text as `parse_memory` reads it; anything else as it is.

    Raises:
        ValueError: the text is no amount of memory.
    """
    if not isinstance(value, str):
        return value
    try:
        return parse_memory(value)
    except ConfigError as error:
        raise ValueError(str(error)) from error


def spell_memory(count: int) -> str:
    """A number of bytes for people, rounded up."""
    for unit, size in (("GB", 10**9), ("MB", 10**6), ("KB", 10**3)):
        if count >= size:
            tenths = -(-count * 10 // size)
            return f"{tenths / 10:,.1f} {unit}"
    return f"{count} bytes"
