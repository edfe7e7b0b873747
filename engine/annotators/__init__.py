"""The registry of annotators: one file a method, one entry here, and the contract tests find it."""

from dataclasses import dataclass

from engine.annotators.asl_head import AslHead, AslHeadRecipe
from engine.annotators.cca import Cca, CcaRecipe
from engine.annotators.cca_knn import CcaKnn, CcaKnnRecipe
from engine.annotators.class_posterior import ClassPosterior, ClassPosteriorRecipe
from engine.annotators.cnn_head import (
    CnnLogistic,
    CnnLogisticRecipe,
    CnnSoftmax,
    CnnSoftmaxRecipe,
    CnnWarp,
    CnnWarpRecipe,
)
from engine.annotators.cnn_r import CnnR, CnnRRecipe
from engine.annotators.cnn_rnn import CnnRnn, CnnRnnRecipe
from engine.annotators.jec import Jec, JecRecipe
from engine.annotators.jvsp import Jvsp, JvspRecipe
from engine.annotators.linear import Linear, LinearRecipe
from engine.annotators.linear_svm import LinearSvm, LinearSvmRecipe
from engine.annotators.mbrm import Mbrm, MbrmRecipe
from engine.annotators.ml_knn import MlKnn, MlKnnRecipe
from engine.annotators.ms_cnn import MsCnn, MsCnnRecipe
from engine.annotators.multimodal import Multimodal, MultimodalRecipe
from engine.annotators.naive_rnn import NaiveRnn, NaiveRnnRecipe
from engine.annotators.prior import Prior, PriorRecipe
from engine.annotators.rank_svm import RankSvm, RankSvmRecipe
from engine.annotators.ranked_lstm import RankedLstm, RankedLstmRecipe
from engine.annotators.ria import Ria, RiaRecipe
from engine.annotators.sinn import Sinn, SinnRecipe
from engine.annotators.skl_crm import SklCrm, SklCrmRecipe
from engine.annotators.social import Social, SocialRecipe
from engine.annotators.sr_cnn_rnn import SrCnnRnn, SrCnnRnnRecipe
from engine.annotators.stacked import Stacked, StackedRecipe
from engine.annotators.svm_dmbrm import SvmDmbrm, SvmDmbrmRecipe
from engine.annotators.tag_neighbour import TagNeighbour, TagNeighbourRecipe
from engine.annotators.tagprop import TagProp, TagPropRecipe
from engine.annotators.two_pass_knn import (
    KccaTwoPassKnn,
    KccaTwoPassKnnRecipe,
    TwoPassKnn,
    TwoPassKnnRecipe,
)
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
    "cca": Method(CcaRecipe, Cca),
    "class-posterior": Method(ClassPosteriorRecipe, ClassPosterior),
    "social": Method(SocialRecipe, Social),
    "jec": Method(JecRecipe, Jec),
    "tagprop": Method(TagPropRecipe, TagProp),
    "2pknn": Method(TwoPassKnnRecipe, TwoPassKnn),
    "kcca-2pknn": Method(KccaTwoPassKnnRecipe, KccaTwoPassKnn),
    "ml-knn": Method(MlKnnRecipe, MlKnn),
    "mbrm": Method(MbrmRecipe, Mbrm),
    "svm-dmbrm": Method(SvmDmbrmRecipe, SvmDmbrm),
    "skl-crm": Method(SklCrmRecipe, SklCrm),
    "stacked": Method(StackedRecipe, Stacked),
    "cnn-r": Method(CnnRRecipe, CnnR),
    "asl-head": Method(AslHeadRecipe, AslHead),
    "cnn-softmax": Method(CnnSoftmaxRecipe, CnnSoftmax),
    "cnn-warp": Method(CnnWarpRecipe, CnnWarp),
    "cnn-logistic": Method(CnnLogisticRecipe, CnnLogistic),
    "tag-neighbour": Method(TagNeighbourRecipe, TagNeighbour),
    "sinn": Method(SinnRecipe, Sinn),
    "cnn-rnn": Method(CnnRnnRecipe, CnnRnn),
    "ria": Method(RiaRecipe, Ria),
    "sr-cnn-rnn": Method(SrCnnRnnRecipe, SrCnnRnn),
    "jvsp": Method(JvspRecipe, Jvsp),
    "ranked-lstm": Method(RankedLstmRecipe, RankedLstm),
    "naive-rnn": Method(NaiveRnnRecipe, NaiveRnn),
    "linear-svm": Method(LinearSvmRecipe, LinearSvm),
    "rank-svm": Method(RankSvmRecipe, RankSvm),
    "multimodal": Method(MultimodalRecipe, Multimodal),
    "ms-cnn": Method(MsCnnRecipe, MsCnn),
}
