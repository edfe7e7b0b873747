"""The sample corpus the project draws itself: pictures with true tags and noisy social tags."""

from engine.sample.scene import SamplePicture, draw_picture
from engine.sample.tags import TAGS

__all__ = ["TAGS", "SamplePicture", "draw_picture"]
