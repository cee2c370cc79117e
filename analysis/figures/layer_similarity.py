"""Are neighbouring layers alike, and does a channel mean the same in two layers?"""

import numpy as np
import seaborn
from matplotlib.figure import Figure

from analysis import style
from analysis.figures.canvas import Absent, broken, canvas
from analysis.tables import Tables

MEASURES = {"cka": "Linear CKA", "pca_cosine": "Cosine of PCA\neigenvectors"}


def draw(tables: Tables, figure: Figure | None = None) -> Figure:
    """Draw layer × layer matrices: a row a measure, a column an upstream."""
    frame = tables.similarity
    if frame is None:
        raise Absent("Needs similarity.csv: study key “similarity: {upstream: corpus}”.")
    upstreams = style.ordered(frame["upstream"].unique(), style.UPSTREAMS)
    measures = [m for m in MEASURES if m in set(frame["measure"])]
    measures += sorted(set(frame["measure"]) - set(MEASURES))
    mean = frame.groupby(["upstream", "measure", "layer_a", "layer_b"])["value"].mean()
    side = min(2.6, (style.WIDTH - 1.2) / len(upstreams))
    width = max(5.0, side * len(upstreams) + 1.4)
    figure = figure or canvas(len(measures) * side + 0.75, width)
    grid = figure.subplots(len(measures), len(upstreams), squeeze=False)
    for row, measure in zip(grid, measures, strict=True):
        name = MEASURES.get(measure, measure)
        for axes, upstream in zip(row, upstreams, strict=True):
            if (upstream, measure) not in mean.index.droplevel([2, 3]):
                axes.axis("off")
                continue
            matrix = mean.loc[upstream, measure].unstack()
            matrix = matrix.combine_first(matrix.T)
            seaborn.heatmap(
                matrix, ax=axes, cmap="cividis", vmin=0, vmax=1, square=True, cbar=False
            )
            axes.invert_yaxis()
            step = 4 if len(matrix) <= 16 else 8
            ticks = np.arange(0, len(matrix), step)
            axes.set_xticks(ticks + 0.5, [str(tick) for tick in ticks], rotation=0)
            axes.set_yticks(ticks + 0.5, [str(tick) for tick in ticks], rotation=0)
            axes.set(xlabel="", ylabel="")
            axes.grid(False)
            if measure == measures[0]:
                axes.set_title(broken(style.upstream_name(upstream), side))
            if measure == measures[-1]:
                axes.set_xlabel("Layer")
        row[0].set_ylabel(f"{name}\n\nLayer")
    figure.colorbar(grid[0, 0].collections[0], ax=grid, aspect=30, pad=0.02, label="similarity")
    return figure
