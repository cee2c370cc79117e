"""Draw the pictures of docs/interfaces.md: ``python docs/pictures/draw.py`` writes the SVG files.

A picture is columns of boxes, read from left to right, each linked to the column before it. Five
states stand for L; h₀, the input of the first block, is at the bottom, as in the upstream.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).parent
LAYERS = ("#E3EEF7", "#C5DDF0", "#9FC8E6", "#74AFD9", "#4A94C8")
SECOND = ("#EFE3F1", "#DCC2E0", "#C79BCD")
"""Of the states of an upstream, and of another one, from the first on."""
CELLS = ("#F0E442", "#009E73", "#56B4E9", "#D55E00", "#CC79A7")
"""Of layers whose channels must be told apart."""
FILL = {"learned": "#FBE3CC", "fixed": "#F0F0F0", "out": "#CDE9DF"}
STROKE = {"learned": "#D55E00", "fixed": "#8C8C8C", "out": "#009E73", "layer": "#3A7CAB"}
STATES = ("h₀", "h₁", "h₂", "h₃", "h₄")
EDGE = 56  # between columns
GAP = 6  # between boxes
TOP, BOTTOM, SIDE = 14, 30, 16

Link = tuple[int, int] | tuple[int, int, float]
"""From box, to box (counted from the bottom) and the line's width."""


@dataclass(frozen=True)
class Column:
    """Boxes above each other, and their links from the column before.

    Args:
        boxes: labels, from the bottom.
        kind: ``layer``, ``learned``, ``fixed`` or ``out``: the colour.
        caption: what stands below the column.
        links: ``all``, ``each`` (one to one), or the links one by one.
        width, height: of a box.
        faint: boxes that are not used.
        shades: colours of a ``layer`` column's boxes.
        cells: for each box the colours of its cells, in place of a label; None is a blank cell.
    """

    boxes: Sequence[str]
    kind: str = "fixed"
    caption: str = ""
    links: str | Sequence[Link] = "all"
    width: int = 44
    height: int = 22
    faint: Sequence[int] = ()
    shades: Sequence[str] = LAYERS
    cells: Sequence[Sequence[int | None]] | None = None

    @property
    def tall(self) -> float:
        """Height of the whole column."""
        return len(self.boxes) * (self.height + GAP) - GAP


def states(caption: str = "L states", faint: Sequence[int] = ()) -> Column:
    """The hidden states of one frame."""
    return Column(STATES, "layer", caption, faint=faint)


def features(links: str | Sequence[Link] = "all") -> Column:
    """The features of one frame."""
    return Column(["y"], "out", "features", links)


def learned(label: str, caption: str, width: int, links: str | Sequence[Link] = "all") -> Column:
    """One box with parameters."""
    return Column([label], "learned", caption, links, width, 30)


def fixed(label: str, caption: str, width: int, links: str | Sequence[Link] = "all") -> Column:
    """One box without parameters."""
    return Column([label], "fixed", caption, links, width, 30)


def windows(count: int, kernel: int = 5, stride: int = 3) -> list[Link]:
    """Links of a convolution over ``count`` positions, padded by half a kernel."""
    starts = range(-(kernel // 2), count + kernel // 2 - kernel + 1, stride)
    return [
        (source, target)
        for target, start in enumerate(starts)
        for source in range(max(0, start), min(count, start + kernel))
    ]


def positions(count: int, kind: str, caption: str, links: Sequence[Link] = ()) -> Column:
    """Positions of the layer axis, too many to be named."""
    return Column([""] * count, kind, caption, links, width=30, height=8)


GATED: list[Link] = [(a, b, 1.4 if a == b else 0.4) for a in range(5) for b in range(5)]
"""Each state goes on by itself; all have a say in its gate."""
WEIGHTED: list[Link] = [(0, 0, 0.7), (1, 0, 1.2), (2, 0, 3.2), (3, 0, 2.2), (4, 0, 1.0)]
CHOSEN = (2, 4, 1, 2, 0, 3, 2, 1)
PICTURES: dict[str, list[Column]] = {
    "single_layer": [states("state k is taken", (0, 1, 3, 4)), features([(2, 0)])],
    "last": [states("the last one is taken", (0, 1, 2, 3)), features([(4, 0)])],
    "mean": [states(), fixed("(1/L) Σ", "mean", 70), features()],
    "weighted_sum": [states(), learned("Σ wₗ hₗ", "softmax weights", 84, WEIGHTED), features()],
    "weighted_sum_mlp": [
        states(),
        learned("Σ wₗ hₗ", "softmax weights", 84, WEIGHTED),
        learned("W₁, ReLU", "D → H", 84),
        learned("W₂", "H → D", 50),
        features(),
    ],
    "grouped_weighted_sum": [
        states(),
        Column(
            ["Σ wₗ hₗ", "Σ wₗ hₗ"],
            "learned",
            "one sum a group",
            [(0, 0, 2.4), (1, 0, 1.0), (2, 0, 1.6), (3, 1, 1.0), (4, 1, 2.4)],
            84,
            30,
        ),
        learned("W", "concatenated: G·D → D", 50),
        features(),
    ],
    "concat": [states(), learned("W", "concatenated: L·D → D", 50), features()],
    "pca_concat": [
        states(),
        Column(["PCA"] * 5, "fixed", "D → ⌊D / L⌋ each", "each", 50),
        fixed("[ ; … ; ]", "concatenated", 84),
        features(),
    ],
    "hconv": [
        positions(13, "layer", "13 states"),
        positions(5, "learned", "Conv1d, ReLU", windows(13)),
        positions(2, "learned", "Conv1d, ReLU", windows(5)),
        fixed("flatten", "2 × D/2 channels", 70),
        features(),
    ],
    "cls_pooling": [
        Column(["cls", *STATES], "layer", "learned token, L states"),
        Column(
            ["attention"],
            "learned",
            "query: cls",
            [(0, 0, 1.0), (1, 0, 0.7), (2, 0, 1.2), (3, 0, 3.2), (4, 0, 2.2), (5, 0, 1.0)],
            84,
            30,
        ),
        learned("feed-forward", "D → F → D, layer norms", 104),
        features(),
    ],
    "gumbel_selection": [
        Column(
            STATES,
            "layer",
            "L states, channel by channel",
            width=176,
            cells=[[row if row == choice else None for choice in CHOSEN] for row in range(5)],
        ),
        Column(["y"], "out", "each from its layer", width=176, cells=[CHOSEN]),
    ],
    "lap": [
        states(),
        Column(["W h"] * 5, "learned", "K heads", "each", 50),
        Column(["× a"] * 5, "learned", "gates, each frame", GATED, 50),
        fixed("max", "over layers", 50),
        learned("U", "D → D, layer norm", 50),
        features(),
    ],
    "sls": [
        states(),
        Column(["× a"] * 5, "learned", "gate of its mean over time", "each", 50),
        fixed("Σ", "sum", 44),
        features(),
    ],
    "attm": [
        states(),
        Column(["× a"] * 5, "learned", "gates of all means over time", GATED, 50),
        learned("M, SiLU", "concatenated: L·D → H", 84),
        learned("N", "H → D", 50),
        features(),
    ],
    "fusion": [
        Column(
            ["g₀", "g₁", "g₂", *STATES],
            "layer",
            "two upstreams",
            shades=(*SECOND, *LAYERS),
        ),
        Column(
            ["interpolate", "interpolate"],
            "fixed",
            "to the most layers and frames",
            [(0, 0), (1, 0), (2, 0), (3, 1), (4, 1), (5, 1), (6, 1), (7, 1)],
            96,
            30,
        ),
        fixed("+  or  [ ; ]", "add or concatenate, project", 96),
        learned("HConv", "or a weighted sum", 70),
        features(),
    ],
}


def svg(columns: Sequence[Column]) -> str:
    """Return a picture as the text of an SVG file."""
    tall = max(column.tall for column in columns)
    height = TOP + tall + BOTTOM
    lefts, x = [], float(SIDE)
    for number, column in enumerate(columns):
        text = 5.6 * len(column.caption)
        overhang = max(0.0, (text - column.width) / 2)
        x = max(x, SIDE + overhang) if number == 0 else x + EDGE + overhang / 2
        lefts.append(x)
        x += column.width + overhang / 2
    width = x + SIDE + max(0.0, (5.6 * len(columns[-1].caption) - columns[-1].width) / 2)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}" '
        f'viewBox="0 0 {width:.0f} {height:.0f}" font-family="Helvetica, Arial, sans-serif">',
        f'<rect width="{width:.0f}" height="{height:.0f}" rx="6" fill="#FFFFFF"/>',
    ]
    for number in range(1, len(columns)):
        parts += _links(columns[number - 1 : number + 1], lefts[number - 1 : number + 1], tall)
    for column, left in zip(columns, lefts, strict=True):
        parts += _boxes(column, left, tall)
        middle = left + column.width / 2
        parts.append(
            f'<text x="{middle:.1f}" y="{height - 10:.1f}" font-size="11" fill="#595959" '
            f'text-anchor="middle">{column.caption}</text>'
        )
    return "\n".join([*parts, "</svg>", ""])


def _y(column: Column, box: int, tall: float) -> float:
    """Top of a box."""
    bottom = TOP + (tall + column.tall) / 2
    return bottom - (box + 1) * column.height - box * GAP


def _links(pair: Sequence[Column], lefts: Sequence[float], tall: float) -> list[str]:
    before, after = pair
    links: Sequence[Link]
    if after.links == "each":
        links = [(box, box) for box in range(len(after.boxes))]
    elif isinstance(after.links, str):
        links = [(a, b) for a in range(len(before.boxes)) for b in range(len(after.boxes))]
    else:
        links = after.links
    drawn = []
    for source, target, *line in links:
        x1, x2 = lefts[0] + before.width, lefts[1]
        y1 = _y(before, source, tall) + before.height / 2
        y2 = _y(after, target, tall) + after.height / 2
        bend = (x2 - x1) / 2
        drawn.append(
            f'<path d="M{x1:.1f} {y1:.1f}C{x1 + bend:.1f} {y1:.1f} {x2 - bend:.1f} {y2:.1f} '
            f'{x2:.1f} {y2:.1f}" fill="none" stroke="#A6A6A6" '
            f'stroke-width="{line[0] if line else 1.0:.1f}"/>'
        )
    return drawn


def _boxes(column: Column, left: float, tall: float) -> list[str]:
    drawn = []
    for box, label in enumerate(column.boxes):
        y = _y(column, box, tall)
        shade = column.shades[box * len(column.shades) // len(column.boxes)]
        fill = FILL.get(column.kind, shade)
        opacity = ' opacity="0.3"' if box in column.faint else ""
        drawn.append(
            f'<rect x="{left:.1f}" y="{y:.1f}" width="{column.width}" height="{column.height}" '
            f'rx="4" fill="{fill}" stroke="{STROKE[column.kind]}"{opacity}/>'
        )
        if column.cells is not None:
            drawn += _cells(column, column.cells[box], left, y)
        elif label:
            middle = left + column.width / 2
            drawn.append(
                f'<text x="{middle:.1f}" y="{y + column.height / 2 + 4:.1f}" font-size="12" '
                f'fill="#262626" text-anchor="middle"{opacity}>{label}</text>'
            )
    return drawn


def _cells(column: Column, colours: Sequence[int | None], left: float, y: float) -> list[str]:
    step = (column.width - 8) / len(colours)
    return [
        f'<rect x="{left + 4 + place * step + 1.5:.1f}" y="{y + 4:.1f}" width="{step - 3:.1f}" '
        f'height="{column.height - 8}" rx="2" '
        f'fill="{"#FFFFFF" if colour is None else CELLS[colour]}" '
        f'stroke="#3A7CAB" stroke-width="0.6"/>'
        for place, colour in enumerate(colours)
    ]


if __name__ == "__main__":
    for name, columns in PICTURES.items():
        (FOLDER / f"{name}.svg").write_text(svg(columns), encoding="utf-8")
