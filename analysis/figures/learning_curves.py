"""Dev value against training step, for every interface and task of one upstream."""

from matplotlib.figure import Figure

from analysis import style
from analysis.figures.canvas import Absent, canvas, key, label_below, legend, panels, shape
from analysis.tables import Tables


def draw(tables: Tables, figure: Figure | None = None, upstream: str | None = None) -> Figure:
    """Draw the mean dev value over seeds; the band spans the seeds."""
    frame = tables.history
    if frame is not None:
        frame = frame[frame["layer"].isna()].dropna(subset="dev")
    if frame is None or frame.empty:
        raise Absent("Needs history.csv with dev values: study key “training: {evaluations: …}”.")
    upstream = upstream or tables.main_upstream
    frame = frame[frame["upstream"] == upstream]
    if frame.empty:
        raise Absent(f"The history has no row of {upstream}: study key “upstreams”.")
    tasks = [task for task in tables.tasks if task in set(frame["task"])]
    interfaces = [name for name in tables.interfaces if name in set(frame["interface"])]
    rows, columns = shape(len(tasks))
    figure = figure or canvas(rows * (2.5 if columns < 4 else 2.1) + 1.0)
    used = panels(figure, len(tasks))
    for axes, task in zip(used, tasks, strict=True):
        for interface in interfaces:
            mine = frame[(frame["task"] == task) & (frame["interface"] == interface)]
            if mine.empty:
                continue
            look = style.interface_look(interface, interfaces)
            steps = mine.groupby("step")["dev"].agg(["mean", "min", "max"])
            axes.plot(
                steps.index,
                steps["mean"],
                color=look.colour,
                marker=look.marker,
                markersize=3.5,
                linewidth=1.1,
            )
            axes.fill_between(
                steps.index, steps["min"], steps["max"], color=look.colour, alpha=0.12, linewidth=0
            )
        axes.set_title(style.task_name(task))
        axes.set_ylabel(f"dev {style.metric_name(*tables.metric(task))} (%)")
        axes.set_xlim(left=0)
    figure.suptitle(style.upstream_name(upstream), fontweight="bold")
    label_below(used, columns, "Step")
    legend(figure, [key(style.interface_look(i, interfaces), linestyle="-") for i in interfaces])
    return figure
