"""Pixels to embeddings: backbones by name, their weights, their preprocessing, their compute."""

from engine.embed.compute import Compute, Embedder, load_embedder, resolve_compute
from engine.embed.zoo import BACKBONES, Backbone, backbone, class_head

__all__ = [
    "BACKBONES",
    "Backbone",
    "Compute",
    "Embedder",
    "backbone",
    "class_head",
    "load_embedder",
    "resolve_compute",
]
