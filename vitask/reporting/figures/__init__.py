"""Figures as SVG text: drawn by matplotlib, in colours that read on light and dark paper and to the colour-blind."""

from vitask.reporting.figures.charts import bar_figure, line_figure, radar_figure
from vitask.reporting.figures.evaluation import confusion_figure, density_figure, reliability_figure

__all__ = [
    "bar_figure",
    "confusion_figure",
    "density_figure",
    "line_figure",
    "radar_figure",
    "reliability_figure",
]
