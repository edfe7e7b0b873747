"""What the self-contained HTML pages share: their palette, their policy, pictures within them."""

from engine.page.document import render_page

__all__ = ["render_page"]
