"""The texts of a figure, and which of them lie on each other."""

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text


def texts(figure):
    """Return what a figure says."""
    return [t.get_text() for t in figure.findobj(Text) if t.get_visible() and t.get_text()]


def overlapping(figure):
    """Return pairs of the figure's texts that lie on each other."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    renderer = canvas.get_renderer()
    ticks = {
        label
        for axes in figure.axes
        for axis in (axes.xaxis, axes.yaxis)
        for label in axis.get_ticklabels(which="both")
    }
    inside = {
        label
        for axes in figure.axes
        for axis in (axes.xaxis, axes.yaxis)
        for place, label in zip(axis.get_majorticklocs(), axis.get_majorticklabels(), strict=False)
        if axes.axison and min(axis.get_view_interval()) <= place <= max(axis.get_view_interval())
    }
    boxes = []
    for text in figure.findobj(Text):
        drawn = text.get_visible() and (text not in ticks or text in inside)
        if text.get_text().strip() and drawn:
            box = text.get_window_extent(renderer)
            if box.width > 1 and box.height > 1:
                boxes.append((text.get_text(), box))
    size = figure.bbox
    found = []
    for number, (first, a) in enumerate(boxes):
        if a.x0 < size.x0 - 1 or a.x1 > size.x1 + 1 or a.y0 < size.y0 - 1 or a.y1 > size.y1 + 1:
            found.append((first, "edge of the figure"))
        for second, b in boxes[number + 1 :]:
            width = min(a.x1, b.x1) - max(a.x0, b.x0)
            height = min(a.y1, b.y1) - max(a.y0, b.y0)
            if width > 1 and height > 1:
                found.append((first, second))
    return found
