"""The column of hand-crafted features for drawn pictures: those that take a millisecond each."""

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from engine.features import FEATURES, feature_slices
from engine.features.describer import Describer

CHEAP = ("hsv-histogram", "lab-moments", "edge-directions", "lbp")


def cheap_features(jpegs: Sequence[bytes]) -> NDArray[np.float16]:
    """All the features of some pictures side by side, of which the others are 0."""
    pictures = []
    for jpeg in jpegs:
        decoded_HWC = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_REDUCED_COLOR_2)
        pictures.append(cv2.cvtColor(decoded_HWC, cv2.COLOR_BGR2RGB))
    describer = Describer.learn([pictures[:60]], names=CHEAP)
    features_ND = np.zeros((len(pictures), sum(FEATURES.values())), dtype=np.float16)
    places = feature_slices()
    for name, found_ND in describer(pictures).items():
        features_ND[:, places[name]] = found_ND
    return features_ND
