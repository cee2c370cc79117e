"""Tables in LaTeX: booktabs, one block of rows after another."""

from collections.abc import Sequence

SIGNS = {
    "±": r"$\pm$",
    "†": r"$\dagger$",
    "×": r"$\times$",
    "↓": r"$\downarrow$",
    "↑": r"$\uparrow$",
    "−": "$-$",
    "–": "--",
}


def escape(text: str) -> str:
    """Return plain text as LaTeX."""
    for sign in "&%#_":
        text = text.replace(sign, rf"\{sign}")
    for sign, command in SIGNS.items():
        text = text.replace(sign, command)
    return text


def tabular(
    heads: Sequence[str], blocks: Sequence[Sequence[Sequence[str]]], texts: int, caption: str
) -> str:
    """Return a table environment.

    Args:
        heads: plain text above every column.
        blocks: rows of cells, in LaTeX already, with a rule above each block.
        texts: how many columns from the left hold text; the others are aligned right.
        caption: plain text.
    """
    lines = [
        r"% needs \usepackage{booktabs}",
        r"\begin{table}[t]",
        r"\centering",
        r"\small",
        rf"\caption{{{escape(caption)}}}",
        rf"\begin{{tabular}}{{{'l' * texts}{'r' * (len(heads) - texts)}}}",
        r"\toprule",
        " & ".join(map(escape, heads)) + r" \\",
    ]
    for block in blocks:
        lines.append(r"\midrule")
        lines += [" & ".join(row) + r" \\" for row in block]
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", r"\end{table}", ""])
