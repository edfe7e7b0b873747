"""The gradient loops: `minimise` sees all the pictures at each step, `train` a batch of them."""

from engine.training.checkpoints import Checkpoints, FolderCheckpoints
from engine.training.loop import Batch, Trained, train
from engine.training.whole import minimise

__all__ = ["Batch", "Checkpoints", "FolderCheckpoints", "Trained", "minimise", "train"]
