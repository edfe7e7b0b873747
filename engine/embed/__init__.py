"""Pixels to embeddings: backbones by name, their weights, their preprocessing, their compute."""

from engine.embed.compute import (
    FLOAT32,
    Compute,
    Embedder,
    Machine,
    candidates,
    ensure_graph,
    load_embedder,
    resolve_compute,
    this_machine,
)
from engine.embed.zoo import BACKBONES, FLIP, Backbone, backbone, class_head

__all__ = [
    "BACKBONES",
    "FLIP",
    "FLOAT32",
    "Backbone",
    "Compute",
    "Embedder",
    "Machine",
    "backbone",
    "candidates",
    "class_head",
    "ensure_graph",
    "load_embedder",
    "resolve_compute",
    "this_machine",
]
