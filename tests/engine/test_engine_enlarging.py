"""A head enlarged by an interface's parameters: how wide, how large, and what it changes."""

import json
import re

import pandas as pd
import pytest

from ssl_bench import cells, enlarging, registry
from ssl_bench.enlarging import Enlarged, nearest
from ssl_bench.errors import StudyError
from ssl_bench.study import Cell, parse
from SSL_Interface.interfaces.hconv import hconv_parameters

SIZES = {"13 × 768": (13, 768), "25 × 1024": (25, 1024)}
ABLE = ("asr", "er", "ic", "ks", "lid", "mono_asr", "multi_asr", "multi_lid", "pr", "sf", "sid")


def table(letters: str = "ABCDEFGHIJKLMNOPQRSTUVWXYZ'") -> pd.DataFrame:
    """A corpus whose texts have 28 symbols, the space among them, and every other label."""
    return pd.DataFrame(
        [
            {
                "id": f"{split}-{i}",
                "split": split,
                "duration": 2.0,
                "text": f"{letters} {letters}",
                "slots": "answer O",
                "phones": "AA B",
                "speaker": f"s{i}",
                "language": ("en", "de")[i % 2],
                **dict.fromkeys(("keyword", "emotion", "action", "object", "location"), "x"[i:]),
            }
            for split in ("train", "dev", "test")
            for i in range(2)
        ]
    ).replace("", "y")


def study(task: dict, **interfaces: dict):
    return parse(
        {
            "name": "enlarged",
            "seeds": 1,
            "corpora": {"c": {"kind": "synthetic", "recipe": "sentences"}},
            "upstreams": {"u": {"kind": "fbank"}},
            "tasks": {"t": {"corpus": "c", "enlarge_by": "hconv", **task}},
            "interfaces": {"weighted_sum": {}, "hconv": {}, **interfaces},
            "sweep": {},
        }
    )


def found(made, layers: int, dim: int) -> Enlarged:
    config = made.task_config("t")
    task = registry.load("tasks", config.kind).Task(config, table())
    return enlarging.find(made, "t", task, layers, dim, dim)


def test_nearest_of_a_growing_size():
    assert nearest(lambda w: 10 * w, 4, 40 + 123) == 16
    assert nearest(lambda w: 10 * w, 4, 45) == 4
    assert nearest(lambda w: w * w, 3, 10_000) == 100
    assert nearest(lambda w: w * w, 1, 2) == 1


@pytest.mark.parametrize("kind", ABLE)
@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
def test_a_head_grows_by_the_interfaces_parameters(kind, size):
    made = study({"kind": kind})
    one = found(made, *size)
    assert one.interface_parameters == hconv_parameters(*size)
    assert one.width > one.width_before == getattr(made.task_config("t"), one.key)
    missed = one.parameters - one.parameters_before - one.interface_parameters
    config = made.task_config("t").model_copy(update={one.key: one.width + 1})
    wider = registry.load("tasks", kind).Task(config, table()).head(size[1])
    step = sum(p.numel() for p in wider.parameters()) - one.parameters
    assert step > 0
    assert abs(missed) <= step / 2 + (kind in ("asr", "sf")) * step  # theirs grows with the width


def test_the_page_on_the_paper_has_these_sizes(repository):
    page = (repository / "docs" / "paper.md").read_text(encoding="utf-8")
    for name, size in SIZES.items():
        one = found(study({"kind": "mono_asr"}), *size)
        added = one.parameters - one.parameters_before
        row = f"| {name} | {one.interface_parameters:,} | 1024 → {one.width} | {added:,} |"
        assert row in page


def test_the_head_is_made_as_it_was_found():
    config = study({"kind": "mono_asr"}).task_config("t")
    task = registry.load("tasks", "mono_asr").Task(config, table())
    one = enlarging.find(study({"kind": "mono_asr"}), "t", task, 13, 64, 64)
    head = enlarging.head(task, 64, one)
    assert sum(p.numel() for p in head.parameters()) == one.parameters
    plain = enlarging.head(task, 64, None)
    assert sum(p.numel() for p in plain.parameters()) == one.parameters_before
    assert task.config.feed_forward == one.width_before  # the task is as it was


def test_an_interfaces_options_count():
    small = study({"kind": "mono_asr", "enlarge_by": "narrow"}, narrow={"kind": "concat"})
    one = found(small, 13, 32)
    assert (one.by, one.interface_parameters) == ("narrow", 13 * 32 * 32 + 32)


def test_a_width_that_does_nothing_is_told():
    with pytest.raises(StudyError) as raised:
        found(study({"kind": "mono_asr", "layers": 0}), 13, 32)
    assert str(raised.value).startswith(
        "tasks.t: enlarge_by: a larger feed_forward does not make this head larger; found "
    )


def test_an_interface_that_does_not_fit_the_upstream_is_told():
    with pytest.raises(StudyError, match=r"tasks\.t: enlarge_by: interfaces\.hconv: "):
        found(study({"kind": "mono_asr"}), 1, 32)


@pytest.mark.parametrize(
    ("task", "parts"),
    [
        ({"kind": "sv"}, ["'sv' has no inner width to enlarge", "mono_asr"]),
        ({"kind": "pr", "enlarge_by": "hcomv"}, ["unknown 'hcomv'", "hconv"]),
        ({"kind": "pr", "enlarge_by": 4}, ["expected the name of an interface, found 4"]),
        ({"kind": "pr", "enlarge_by": None}, ["expected the name of an interface, found None"]),
        ({"kind": "pr", "enlarge_by": "each"}, ["'each' is a probe of each layer"]),
    ],
)
def test_what_cannot_be_enlarged_is_told_in_one_line(task, parts):
    with pytest.raises(StudyError) as raised:
        study(task, each={"kind": "single_layer", "layer": "each"})
    line = str(raised.value)
    assert line.startswith("study: tasks.t.enlarge_by: ")
    assert "\n" not in line
    for part in parts:
        assert part in line


def test_kinds_that_can_be_enlarged():
    kinds = {k: registry.load("tasks", k).Task.inner_width for k in registry.kinds("tasks")}
    assert {kind for kind, width in kinds.items() if width is not None} == set(ABLE)
    for kind in ABLE:
        assert kinds[kind] in registry.load("tasks", kind).Config.model_fields


def test_it_determines_a_cell_and_nothing_else_changes():
    with_it = study({"kind": "pr"})
    cell = Cell("t", "u", "weighted_sum")
    assert json.loads(with_it.slice(*cell))["enlarge_by"] == {"hconv": {}}
    other = study({"kind": "pr"}, hconv={"kernel_size": 3})
    assert with_it.fingerprint(cell) != other.fingerprint(cell)
    # Cells of before there was this key keep their names; then, a run stopped that is skipped now,
    # and a batch was of one length bucket.
    then = {"not_finite": "stop", "batches": "buckets"}
    before = {"kind": "pr", "corpus": "c", "training": then}
    plain = with_it.model_copy(update={"tasks": {"t": before}})
    assert plain.fingerprint(cell) == "0f9f8873d6bcceb5"


def test_a_cell_reports_its_head(ready, capsys):
    tasks = {
        "ks": {"kind": "ks", "corpus": "tones", "hidden": 8},
        "ks_large": {"kind": "ks", "corpus": "tones", "hidden": 8, "enlarge_by": "hconv"},
    }
    made = ready(tasks=tasks, interfaces={"weighted_sum": {}, "hconv": {}})
    about = {}
    for task in tasks:
        cells.sweep(made, task, "mini", "all")
        cells.run(made, task, "mini", "all")
        place = made.pack_dir(task, "mini", "all") / "weighted_sum"
        about[task] = json.loads((place / "metrics.json").read_text())
    one = about["ks_large"]["enlarged"]
    assert "enlarged" not in about["ks"]
    before = about["ks"]["runs"][0]["head_parameters"]
    runs = about["ks_large"]["runs"]
    assert {run["head_parameters"] for run in runs} == {one["parameters"]}
    assert (one["by"], one["width_before"], one["parameters_before"]) == ("hconv", 8, before)
    # Linear(16 → H), Linear(H → 3): 20 parameters a unit.
    assert one["interface_parameters"] == hconv_parameters(4, 16)
    assert one["parameters"] == before + 20 * (one["width"] - 8)
    assert abs(one["parameters"] - before - one["interface_parameters"]) <= 10
    told = re.findall(r"ks_large mini weighted_sum: hidden 8 → [\d,]+: .*", capsys.readouterr().err)
    assert len(told) == 2  # by the sweep and by the training
