"""What the self-contained HTML pages share: their palette, their policy, pictures within them."""

from engine.page.document import percent, render_page

__all__ = ["percent", "render_page"]
