"""The configuration of a fit: one TOML file and `--set` overrides, frozen and checked at once."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import (
    BeforeValidator,
    Field,
    PositiveInt,
    SerializeAsAny,
    ValidationError,
    model_validator,
)

from engine.annotators import REGISTRY
from engine.annotators.cca_knn import CcaKnnRecipe
from engine.annotators.class_posterior import ClassPosteriorRecipe
from engine.annotators.linear import LinearRecipe
from engine.calibration import Scope
from engine.embed import BACKBONES, FLIP, Compute, backbone
from engine.ensemble import CountConfig, EnsembleSettings, check_roles
from engine.errors import BackboneError, ConfigError
from engine.geometry import Pixels
from engine.image import DecodeLimits
from engine.index import parse_memory
from engine.overrides import override_setting
from engine.recipe import Recipe
from engine.settings import Settings
from engine.toml_files import read_toml, refusal, toml_value
from engine.vocabulary_rules import VocabularyRules


class VocabularyConfig(VocabularyRules):
    """Which tags are learned, and what they are called.

    Attributes:
        more_tags: tags that no picture of the corpus need carry; annotators that know tags by
            their word vectors (`cnn-r`) can name them, the others give them next to nothing.
    """

    more_tags: tuple[str, ...] = ()

    @property
    def rules(self) -> VocabularyRules:
        """What a bundle keeps of it."""
        return VocabularyRules(**self.model_dump(exclude={"more_tags"}))


class TrainingConfig(Settings):
    """How annotators that learn by gradient descent are run on a cluster.

    Attributes:
        workers: processes that share the pictures and average their gradients; None: one a GPU,
            or one where there is none; but what is learned in parts ('multimodal') is then shared
            out part by part. Another number gives the same weights but for rounding.
        restarts: how often training goes on from its last checkpoint after a worker died.
        log: a folder that gets the figures of each epoch for TensorBoard; None: none.
    """

    workers: PositiveInt | None = None
    restarts: Annotated[int, Field(ge=0)] = 3
    log: Path | None = None


class AccuracyConfig(Settings):
    """How near a fast way from bytes to embeddings must come to the reference to be taken.

    Attributes:
        pictures: of the corpus that it is measured on.
        cosine: the least of any of these between its embedding and the reference's.
        same_tags: share of these that must get the same five best tags.
    """

    pictures: PositiveInt = 200
    cosine: Annotated[float, Field(ge=0, le=1)] = 0.999
    same_tags: Annotated[float, Field(ge=0, le=1)] = 0.99


class EmbedConfig(Settings):
    """Which backbone embeds the pictures, and what computes it when pictures are annotated.

    Attributes:
        backbone: one, or several joined by '+': their levels lie side by side in the embedding,
            and all of them see the square of the first.
        flip: embed the mirror image of every picture as well and take the mean of the two.
        compute, pixels: 'auto' is the fastest that `accuracy` allows.
        geometry: 'backbone' is what its weights were trained with; 'squash' (as in Murthy et al.
            2015) keeps the whole picture and not its aspect ratio; 'crop' keeps the middle.
    """

    backbone: str = "efficientnet-lite2"
    flip: bool = False
    compute: Compute = "auto"
    pixels: Literal["auto"] | Pixels = "auto"
    accuracy: AccuracyConfig = AccuracyConfig()
    geometry: Literal["backbone", "squash", "crop"] = "squash"

    @model_validator(mode="after")
    def _known_backbone(self) -> "EmbedConfig":
        if self.backbone in BACKBONES:
            return self
        if self.backbone.endswith(FLIP):
            name = self.backbone.removesuffix(FLIP)
            raise ValueError(f"backbone '{self.backbone}': write backbone = '{name}', flip = true")
        for name in self.backbone.split("+"):
            if name not in BACKBONES:
                raise ValueError(f"no backbone '{name}'; choose one of {', '.join(BACKBONES)}")
        try:
            backbone(self.backbone)
        except BackboneError as error:
            raise ValueError(str(error)) from error
        return self

    @property
    def network(self) -> str:
        """The name under which `engine.embed.backbone` knows all this; it goes into the bundle."""
        return self.backbone + FLIP * self.flip


def _recipe(value: object) -> object:
    if not isinstance(value, Mapping):
        return value
    kind = value.get("kind")
    if kind not in REGISTRY:
        raise ValueError(f"kind is {kind!r}; choose one of {', '.join(REGISTRY)}")
    return REGISTRY[kind].recipe.model_validate(value)


class FitConfig(Settings):
    """Everything that decides what `fit` learns. The same config and corpus give the same bundle.

    Attributes:
        validation: share of the tagged pictures on which fusion, calibration and cut are learned
            and the reported figures measured.
        lift: how far rare tags are lifted, see `engine.fusion.Fusion`; 0 is not at all.
        balance: in place of a lift, tags are ranked by what each is expected to add to a mean over
            words, rare ones as much as frequent ones, on so many pictures; see
            `engine.numerics.word_balance`. 0 is not at all. For figures that average over words.
        calibration: 'tags': each annotator's scores are calibrated tag by tag, 'all': for all tags
            together; see `engine.calibration.Calibration`.
        count: how many tags 'auto' gives.
        order: the annotator in whose order the tags come that are given; None: the likeliest first.
        refit: after that, learn the annotators again on all the pictures.
        max_failed: the job fails if a larger share of the pictures cannot be used.
    """

    seed: int = 0
    validation: Annotated[float, Field(gt=0, lt=1)] = 0.1
    lift: Annotated[float, Field(ge=0, le=1)] = 0.15
    balance: Annotated[int, Field(ge=0)] = 0
    calibration: Scope = "all"
    count: CountConfig = CountConfig()
    order: str | None = None
    refit: bool = True
    max_failed: Annotated[float, Field(ge=0, le=1)] = 0.5
    vocabulary: VocabularyConfig = VocabularyConfig()
    embed: EmbedConfig = EmbedConfig()
    decode: DecodeLimits = DecodeLimits()
    training: TrainingConfig = TrainingConfig()
    annotators: dict[
        Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]*$")],
        Annotated[SerializeAsAny[Recipe], BeforeValidator(_recipe)],
    ] = Field(default={"cca-knn": CcaKnnRecipe(), "linear": LinearRecipe()}, min_length=1)

    @model_validator(mode="after")
    def _speaks_of_every_picture(self) -> "FitConfig":
        if all(REGISTRY[recipe.kind].annotator.may_abstain for recipe in self.annotators.values()):
            raise ValueError(
                f"annotators: none but {', '.join(self.annotators)}, which abstain from pictures "
                "without social tags; add one that looks at the picture, such as 'linear'"
            )
        return self

    @model_validator(mode="after")
    def _counts_and_orders(self) -> "FitConfig":
        try:
            check_roles(self.ensemble_settings, self.annotators)
        except ConfigError as error:
            raise ValueError(str(error)) from error
        return self

    @model_validator(mode="after")
    def _lifts_or_balances(self) -> "FitConfig":
        if self.lift and self.balance:
            raise ValueError(
                f"lift is {self.lift:g} and balance {self.balance}, and both raise rare tags; set "
                "one of them to 0"
            )
        return self

    @property
    def wants_pixels(self) -> bool:
        """Whether some annotator learns from pixels."""
        return any(recipe.wants_pixels for recipe in self.annotators.values())

    @property
    def ensemble_settings(self) -> EnsembleSettings:
        """What of all this the ensemble is learned by."""
        return EnsembleSettings(
            self.seed, self.lift, self.calibration, self.count, self.order, self.balance
        )

    @model_validator(mode="after")
    def _same_backbone(self) -> "FitConfig":
        for name, recipe in self.annotators.items():
            if isinstance(recipe, ClassPosteriorRecipe) and recipe.backbone != self.embed.backbone:
                raise ValueError(
                    f"annotators.{name}.backbone is '{recipe.backbone}', but the pictures are "
                    f"embedded by '{self.embed.backbone}'; name the same one in both"
                )
        return self


def limit_index_memory(config: FitConfig, size: str) -> FitConfig:
    """The configuration with a memory budget for the index of each annotator that has one.

    Args:
        size: such as '512MB', see `engine.index.parse_memory`.

    Raises:
        ConfigError: it is no size, or no annotator has an index.
    """
    return _limited(config, "max_index_memory", size)


def limit_shard_memory(config: FitConfig, size: str) -> FitConfig:
    """The configuration with the index of each annotator that has one in shards.

    Args:
        size: of memory that a shard may take, see `limit_index_memory`.

    Raises:
        ConfigError: it is no size, no annotator has an index, or one is of a kind without shards.
    """
    return _limited(config, "shard_memory", size)


def _limited(config: FitConfig, setting: str, size: str) -> FitConfig:
    limit = {setting: parse_memory(size)}
    limited = {
        name: recipe.model_dump() | limit
        for name, recipe in config.annotators.items()
        if limit.keys() <= type(recipe).model_fields.keys()
    }
    if not limited:
        raise ConfigError(
            f"no annotator of {', '.join(config.annotators)} searches an index whose memory could "
            f"be limited; leave out the limit of {parse_memory(size):,} bytes"
        )
    try:
        checked = {name: _recipe(content) for name, content in limited.items()}
    except ValidationError as error:
        raise refusal(None, error) from error
    return config.model_copy(update={"annotators": {**config.annotators, **checked}})


def load_config(path: Path | None, overrides: Sequence[str] = ()) -> FitConfig:
    """Read a TOML file (None: the defaults) and apply overrides such as `embed.backbone=random`.

    Raises:
        ConfigError: the file cannot be read, or a key or value is not as it must be; the message
            names the key.
    """
    content = {} if path is None else read_toml(path)
    if "annotators" not in content and any(o.startswith("annotators.") for o in overrides):
        # An override of one setting is of the default annotators where no file names others.
        defaults = FitConfig().annotators.items()
        content["annotators"] = {name: recipe.model_dump() for name, recipe in defaults}
    for override in overrides:
        override_setting(content, override, toml_value)
    try:
        return FitConfig.model_validate(content)
    except ValidationError as error:
        raise refusal(path, error) from error


def load_rules(path: Path) -> VocabularyRules:
    """Read a TOML file of vocabulary rules.

    Raises:
        ConfigError: the file cannot be read, or a key or value is not as it must be.
    """
    try:
        return VocabularyRules.model_validate(read_toml(path))
    except ValidationError as error:
        raise refusal(path, error) from error


def with_rules(config: FitConfig, path: Path) -> FitConfig:
    """The configuration with the rules of a file in place of its own of the same names.

    Raises:
        ConfigError: see `load_rules`, or together they contradict each other.
    """
    named = load_rules(path).model_dump(exclude_unset=True)
    try:
        vocabulary = VocabularyConfig(**config.vocabulary.model_dump() | named)
    except ValidationError as error:
        raise refusal(path, error) from error
    return config.model_copy(update={"vocabulary": vocabulary})
