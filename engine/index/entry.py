"""What a bundle's manifest says of an index: its kind, what it takes, and how well it finds."""

from pydantic import BaseModel, ConfigDict

from engine.index.choice import Kind, Store


class IndexEntry(BaseModel):
    """An index as it was built, or as pictures were added to it and removed since.

    Attributes:
        vectors, width: how many, of how many dimensions.
        bytes: of memory that it takes; of its file too, but for some kilobytes.
        max_bytes: the budget that it was built for and never exceeds; None: none was given.
        lists, probes: inverted lists, and how many of them a search looks into.
        subspaces, store, factor: bytes of a product-quantised code; in what form the vectors lie
            beside the codes; how many times the neighbours asked for are ranked anew by these.
        links, effort: M and efSearch of a graph.
        recall: share of the k nearest, by k, that it finds; measured against exact search.
        queries: vectors, drawn from those stored, that recall was measured on, themselves left
            out of their neighbours.
        reason: why this kind.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Kind
    vectors: int
    width: int
    bytes: int
    max_bytes: int | None
    lists: int = 0
    probes: int = 0
    subspaces: int = 0
    store: Store = "none"
    factor: int = 0
    links: int = 0
    effort: int = 0
    recall: dict[str, float]
    queries: int
    reason: str
