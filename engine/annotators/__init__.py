"""The registry of annotators: one file a method, one entry here, and the contract tests find it."""

from dataclasses import dataclass

from engine.annotators.asl_head import AslHead, AslHeadRecipe
from engine.annotators.cca_knn import CcaKnn, CcaKnnRecipe
from engine.annotators.class_posterior import ClassPosterior, ClassPosteriorRecipe
from engine.annotators.cnn_r import CnnR, CnnRRecipe
from engine.annotators.linear import Linear, LinearRecipe
from engine.annotators.prior import Prior, PriorRecipe
from engine.annotators.social import Social, SocialRecipe
from engine.recipe import Annotator, Recipe


@dataclass(frozen=True)
class Method:
    """A kind of annotator: how it is configured and fitted, and what it is once fitted."""

    recipe: type[Recipe]
    annotator: type[Annotator]


REGISTRY: dict[str, Method] = {
    "prior": Method(PriorRecipe, Prior),
    "linear": Method(LinearRecipe, Linear),
    "cca-knn": Method(CcaKnnRecipe, CcaKnn),
    "class-posterior": Method(ClassPosteriorRecipe, ClassPosterior),
    "social": Method(SocialRecipe, Social),
    "cnn-r": Method(CnnRRecipe, CnnR),
    "asl-head": Method(AslHeadRecipe, AslHead),
}
