"""docs/interfaces.md and the READMEs' tables: every interface, and no number but the code's."""

import re
import runpy
from dataclasses import fields

import pytest
import torch

import SSL_Interface

NAMES = SSL_Interface.names()
SIZES = ((13, 768), (25, 1024))


@pytest.fixture(scope="module")
def page(repository):
    return (repository / "docs" / "interfaces.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def sections(page):
    """Heading → text of the section."""
    parts = re.split(r"^## (.+)$", page, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


@pytest.fixture(scope="module")
def script(repository):
    return runpy.run_path(str(repository / "docs" / "pictures" / "draw.py"))


def rows(text):
    """First cell → the other cells, numbers as numbers."""
    table = {}
    for line in re.findall(r"^\|(.+)\|$", text, re.MULTILINE):
        first, *cells = [cell.strip() for cell in line.split("|")]
        if all(re.fullmatch(r"[\d,]+", cell) for cell in cells):
            table[first] = [int(cell.replace(",", "")) for cell in cells]
    return table


def made(name, **options):
    with torch.device("meta"):
        return [SSL_Interface.create(name, *size, **options) for size in SIZES]


def test_a_section_for_every_interface_and_no_other(sections):
    headings = [*(f"`{name}`" for name in NAMES), "Several upstreams: `fuse`"]
    assert sorted(sections) == sorted(headings)


@pytest.mark.parametrize("name", NAMES)
def test_section(name, sections):
    text = sections[f"`{name}`"]
    interfaces = made(name)
    assert rows(text) == {
        "parameters": [interface.parameter_count() for interface in interfaces],
        "MACs a frame": [interface.macs_per_frame() for interface in interfaces],
        "width $D'$": [interface.output_dim for interface in interfaces],
    }
    assert f"](pictures/{name}.svg)" in text
    assert text.count("```math\n") == 1
    assert "**When.**" in text
    assert f"rofile: {interfaces[0].profile_kind}" in " ".join(text.split())


def test_section_of_several_upstreams(sections):
    text = sections["Several upstreams: `fuse`"]
    expected = {}
    with torch.device("meta"):
        for kind in SSL_Interface.fusion.KINDS:
            fusions = [SSL_Interface.fuse(kind, [size, size]) for size in SIZES]
            expected[f"`{kind}`"] = [
                *(fusion.parameter_count() for fusion in fusions),
                *(fusion.macs_per_frame() for fusion in fusions),
            ]
    assert rows(text) == expected
    assert "](pictures/fusion.svg)" in text


def test_more_groups(sections):
    text = sections["`grouped_weighted_sum`"]
    for groups in (3, 4):
        assert f"{made('grouped_weighted_sum', groups=groups)[0].parameter_count():,}" in text


def test_links_lead_to_sections(page, sections):
    anchors = {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in sections}
    targets = set(re.findall(r"\]\(#([^)]+)\)", page))
    assert targets
    assert targets <= anchors


@pytest.mark.parametrize("name", [*NAMES, "fusion"])
def test_pictures_are_those_of_the_script(name, repository, script):
    drawn = (repository / "docs" / "pictures" / f"{name}.svg").read_text(encoding="utf-8")
    assert drawn == script["svg"](script["PICTURES"][name])


def row_of(name, text):
    """The one row of a table whose first cell names an interface, as its cells."""
    pattern = rf"^\| [^|]*`{name}`[^|]*\|.*$"
    (row,) = re.findall(pattern, text, re.MULTILINE)
    return row.strip("|").split("|")


@pytest.mark.parametrize("name", NAMES)
def test_readme_names_every_interface_with_its_parameters(name, repository):
    readme = (repository / "README.md").read_text(encoding="utf-8")
    assert f"{made(name)[0].parameter_count():,}" in row_of(name, readme)[2]


@pytest.mark.parametrize("name", NAMES)
def test_options_are_listed_for_studies(name, repository):
    text = (repository / "config" / "README.md").read_text(encoding="utf-8")
    table = text.split("## Interfaces")[1].split("\n## ")[0]
    options = {field.name for field in fields(SSL_Interface.find(name).Config)}
    options -= {field.name for field in fields(SSL_Interface.InterfaceConfig)}
    listed = row_of(name, table)[1]
    assert all(f"`{option}`" in listed for option in options)
