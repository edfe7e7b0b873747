"""The evaluation report: what a bundle gets right on a corpus, as one self-contained HTML page."""

from engine.report.content import Course, Examples, Facts, best_and_worst
from engine.report.page import render_report

__all__ = ["Course", "Examples", "Facts", "best_and_worst", "render_report"]
