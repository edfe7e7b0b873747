"""The gallery: annotated pictures as one self-contained HTML page that works without a network."""

from engine.gallery.page import (
    GalleryItem,
    GalleryNeighbour,
    GallerySection,
    GalleryTag,
    render_gallery,
)

__all__ = ["GalleryItem", "GalleryNeighbour", "GallerySection", "GalleryTag", "render_gallery"]
