"""Captions for Snakemake's report are shown as they stand, whatever marks they have."""

import html
import re

import pytest
from docutils.core import publish_parts
from jinja2 import Environment

from analysis import captions, restructured
from analysis.figures import FIGURES


def shown(text: str, folder) -> str:
    """Write a caption, then read it as Snakemake does; return the text on the page."""
    (path,) = restructured.write({"one": text}, folder)
    assert path.name == "one.rst"
    source = Environment(trim_blocks=True, lstrip_blocks=True).from_string(path.read_text("utf-8"))
    page = publish_parts(source.render(), writer="html")["body"]
    assert "system-message" not in page
    return html.unescape(re.sub("<[^>]+>", "", page)).strip()


@pytest.mark.parametrize(
    "text",
    [
        "mean ± half of the 95 % interval *over* seeds; †: not `worse`",
        "weight×norm |share| of hubert_base_, a\\b and n = 2",
        "braces {{ 1 + 1 }} and {# none #}",
        "Claim 1. Two: three",
    ],
)
def test_marks_are_only_text(text, tmp_path) -> None:
    assert shown(text, tmp_path).split() == text.split()


def test_every_caption_of_a_study(full, tmp_path) -> None:
    assert set(captions.FIGURES) == set(FIGURES)
    for name in captions.TITLES:
        text = captions.caption(name, full)
        assert shown(text, tmp_path).split() == text.split(), name
