"""README's blocks come whole from a study's results, and nothing else of the page changes."""

import pytest

from analysis.__main__ import main
from analysis.readme import BLOCKS, digest, renew, split
from ssl_bench.errors import StudyError

PAGE = """# Title

<!-- main table -->
old
<!-- /main table -->
Between – the two.
<!-- default table -->
<!-- /default table -->
Last line.
"""


def run(*arguments):
    with pytest.raises(SystemExit) as end:
        main(list(map(str, arguments)))
    return end.value.code


@pytest.fixture(scope="module")
def finished(small_frames, write, tmp_path_factory):
    """Tables and one figure of a study of four tasks and nine interfaces."""
    folder = tmp_path_factory.mktemp("finished")
    write(small_frames, folder / "tables")
    options = ["--tables", folder / "tables", "--out"]
    assert run("tables", *options, folder / "tables", "--resamples", 100) == 0
    only = ["--only", "interface_comparison"]
    assert run("figures", *options, folder / "figures", *only) == 0
    return folder


@pytest.fixture
def page(finished, tmp_path):
    """README.md beside the results of both studies."""
    for block in BLOCKS.values():
        (tmp_path / block.results).parent.mkdir(exist_ok=True)
        (tmp_path / block.results).symlink_to(finished)
    (tmp_path / "README.md").write_text(PAGE, encoding="utf-8")
    return tmp_path / "README.md"


def test_both_blocks_are_the_studys(page, finished, small):
    assert run("readme", "--page", page) == 0
    made = page.read_text(encoding="utf-8")
    table = (finished / "tables" / "comparison_main.md").read_text(encoding="utf-8").strip()
    before, main_block, after = split(made, "main", "page")
    assert main_block == table
    assert before + after.split("<!-- default")[0] == PAGE.split("<!-- default")[0].replace(
        "\nold\n", ""
    )
    block = split(made, "default", "page")[1]
    assert block.count(table) == 1
    assert made.endswith("<!-- /default table -->\nLast line.\n")
    cells = {
        (*cell, "f" * 16) for cell in small.cells.groupby(["task", "upstream", "interface"]).groups
    }
    assert f"<!-- cells {digest(cells)} -->" in block
    assert f"Trained by 000000000000 of version 0.1.0 ({len(cells)} cells), on cpu." in block
    picture = page.parent / BLOCKS["default"].picture
    assert f"]({BLOCKS['default'].picture})" in block
    assert picture.read_bytes() == (finished / "figures" / "interface_comparison.png").read_bytes()
    assert run("readme", "--page", page) == 0
    assert page.read_text(encoding="utf-8") == made, "a second time changes nothing"


def test_one_block_leaves_the_other(page):
    assert run("readme", "default", "--page", page) == 0
    assert split(page.read_text(encoding="utf-8"), "main", "page")[1] == "old"


def test_a_cells_fingerprint_counts_and_their_order_does_not():
    cells = [("ks", "mini", "mean", "a"), ("ks", "mini", "last", "b")]
    assert digest(cells) == digest([*reversed(cells), cells[0]])
    assert digest(cells) != digest([cells[0], ("ks", "mini", "last", "c")])


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("<!-- /default table -->", ""),
        ("Last line.", "<!-- default table -->"),
        (
            "<!-- default table -->\n<!-- /default table -->",
            "<!-- /default table --><!-- default table -->",
        ),
    ],
    ids=["one mark", "twice", "the other way round"],
)
def test_marks_that_are_wrong_are_one_line(page, capsys, old, new):
    page.write_text(PAGE.replace(old, new), encoding="utf-8")
    before = page.read_bytes()
    assert run("readme", "default", "--page", page) == 2
    assert "README.md: expected <!-- default table --> and after it" in capsys.readouterr().err
    assert page.read_bytes() == before
    assert not (page.parent / BLOCKS["default"].picture).exists()


def test_an_unfinished_study_is_one_line_and_nothing_is_written(page):
    (page.parent / "results" / "mini").unlink()
    with pytest.raises(StudyError, match=r"results/mini/tables/comparison_main.md: no such file"):
        renew("default", page)
    assert page.read_text(encoding="utf-8") == PAGE
    with pytest.raises(StudyError, match=r"unknown block 'defualt'; did you mean 'default'"):
        renew("defualt", page)
