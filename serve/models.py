"""The requests and the answers of the API, version 1, as typed models."""

from typing import Annotated, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    model_validator,
)

from serve.errors import Problem

MOST_TAGS = 1000
"""Tags a picture that may be asked for."""

MOST_SOCIAL_TAGS = 100
"""Social tags of a picture that are taken."""

MOST_CHARACTERS = 200
"""Of a tag."""

Tag = Annotated[str, StringConstraints(min_length=1, max_length=MOST_CHARACTERS)]
Count = Annotated[int, Field(ge=1, le=MOST_TAGS, strict=True)]


def _number(value: object) -> object:
    """Forms and queries carry text; JSON must carry numbers."""
    return int(value) if isinstance(value, str) and value.isascii() and value.isdigit() else value


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Options(_Strict):
    """What is wanted of every picture of a request."""

    top_k: Annotated[Count | Literal["auto"], BeforeValidator(_number)] = Field(
        default=5, description="Tags a picture at most; 'auto': as many as the bundle's cut gives."
    )
    threshold: float | None = Field(
        default=None,
        ge=0,
        le=1,
        allow_inf_nan=False,
        description="Only tags of at least this score.",
    )
    include: list[Tag] | None = Field(
        default=None, max_length=MOST_TAGS, description="Only these tags, or groups of tags."
    )
    exclude: list[Tag] = Field(
        default=[], max_length=MOST_TAGS, description="None of these tags, or groups of tags."
    )
    explain: bool = Field(
        default=False,
        description="Tell the neighbours and each annotator's share in each tag's score.",
    )


class Pictures(_Strict):
    """Pictures of a JSON request."""

    images: list[str] = Field(
        default=[],
        description="Encoded pictures in base64.",
        json_schema_extra={"items": {"type": "string", "contentEncoding": "base64"}},
    )
    urls: list[Annotated[str, StringConstraints(min_length=1, max_length=2000)]] = Field(
        default=[],
        description="Addresses of pictures, https; refused unless the server allows the host.",
    )

    @model_validator(mode="after")
    def _some(self) -> "Pictures":
        if not self.images and not self.urls:
            raise ValueError("there is no picture: give images, urls or both")
        return self


class AnnotateRequest(Pictures, Options):
    """JSON body of POST /v1/annotate."""

    social_tags: list[Annotated[list[Tag], Field(max_length=MOST_SOCIAL_TAGS)]] | None = Field(
        default=None,
        description="Tags that users gave: a list for each picture, images first, then urls.",
    )

    @model_validator(mode="after")
    def _as_many(self) -> "AnnotateRequest":
        pictures = len(self.images) + len(self.urls)
        if self.social_tags is not None and len(self.social_tags) != pictures:
            raise ValueError(
                f"social_tags has {len(self.social_tags)} lists for {pictures} pictures"
            )
        return self


class FormOptions(Options):
    """Options in a query, or in the fields of a form."""

    social_tags: list[Tag] = Field(
        default=[],
        max_length=MOST_SOCIAL_TAGS,
        description="Tags that users gave to the one picture of the request.",
    )


class ScoredTag(BaseModel):
    """A tag with its calibrated score in [0, 1]; shares by annotator sum to 1."""

    tag: str
    score: float
    shares: dict[str, float] | None = None


class Neighbour(BaseModel):
    """A training picture near to the one asked about; the thumbnail is a JPEG in base64."""

    image_id: str
    distance: float
    tags: list[str]
    thumbnail: str | None


class Annotation(BaseModel):
    """One picture's tags, best first, or why it has none."""

    name: str
    error: Problem | None
    tags: list[ScoredTag]
    neighbours: list[Neighbour] | None = None


class AnnotateResponse(BaseModel):
    """One result a picture, in the order they came; `error` where no picture could be used."""

    bundle_id: str
    request_id: str
    results: list[Annotation]
    error: Problem | None = None


class Embedding(BaseModel):
    """One picture's embedding, or why it has none."""

    name: str
    error: Problem | None
    embedding: list[float] | None


class EmbedResponse(BaseModel):
    """The backbone's embeddings."""

    bundle_id: str
    request_id: str
    backbone: str
    width: int
    results: list[Embedding]
    error: Problem | None = None


class Near(BaseModel):
    """One picture's nearest training pictures, or why it has none."""

    name: str
    error: Problem | None
    neighbours: list[Neighbour]


class NeighboursResponse(BaseModel):
    """The nearest training pictures, nearest first."""

    bundle_id: str
    request_id: str
    results: list[Near]
    error: Problem | None = None


class VocabularyTag(BaseModel):
    """A tag and how often it was seen in training."""

    tag: str
    count: int


class VocabularyResponse(BaseModel):
    """The tags that may be given, most frequent first, and what else a request may call them."""

    bundle_id: str
    digest: str
    tags: list[VocabularyTag]
    aliases: dict[str, str] = {}
    groups: dict[str, list[str]] = {}


class BundleResponse(BaseModel):
    """What the bundle is made of."""

    id: str
    backbone: str
    width: int
    tags: int
    annotators: dict[str, str]
    weights: dict[str, float]
    threshold: float
    metrics: dict[str, dict[str, float]]
    fingerprints: dict[str, str]
    notes: list[str]
    max_picture_bytes: int
    max_picture_pixels: int
    max_pictures: int
    max_body_bytes: int
