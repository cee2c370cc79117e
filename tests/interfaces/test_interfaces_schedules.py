"""The candidates of benchmarks/schedules.py compute what the plain forms do."""

import importlib

import pytest
import torch


@pytest.fixture
def schedules(repository, monkeypatch):
    monkeypatch.syspath_prepend(str(repository / "benchmarks"))
    return importlib.import_module("schedules")


@pytest.mark.parametrize("shape", ["13x2x3x16", "7x1x2x9", "25x2x2x18"])
def test_every_candidate_is_exact(schedules, shape, capsys):
    rows = schedules.main(["--device", "cpu", "--shape", shape])
    named = [f"{name}/{c}" for name, cs in schedules.CANDIDATES.items() for c in ("plain", *cs)]
    assert [row["name"] for row in rows] == named
    printed = capsys.readouterr().out
    for row in rows:
        name, _, label = row["name"].partition("/")
        assert f"| {row['name']} |" in printed
        if label != "plain" and schedules.CANDIDATES[name][label].gpu_only:
            assert row["note"] == "needs a GPU"
        else:
            assert row["error"] < 1e-5, row


def test_exchanged_parts_are_what_runs(schedules, monkeypatch):
    class Broken:
        def __init__(self, *_):
            raise RuntimeError("broken")

        apply = __init__

    names = []
    for name, candidates in schedules.CANDIDATES.items():
        for label, candidate in candidates.items():
            if candidate.parts and not candidate.gpu_only:
                names.append(f"{name}/{label}")
                broken = schedules.Candidate(candidate.form, dict.fromkeys(candidate.parts, Broken))
                monkeypatch.setitem(candidates, label, broken)
    assert len(names) == 14
    rows = schedules.main(["--device", "cpu", "--shape", "13x1x2x8", "--only", *names])
    assert [row["note"] for row in rows] == ["failed: broken"] * 14
    after = schedules.main(["--device", "cpu", "--shape", "13x1x2x8", "--only", "hconv/library"])
    assert after[0]["error"] < 1e-5


def test_a_wrong_candidate_shows(schedules, monkeypatch):
    wrong = schedules.Candidate(lambda interface, states: 1.1 * interface.join(states))
    monkeypatch.setitem(schedules.CANDIDATES["concat"], "library", wrong)
    rows = schedules.main(["--device", "cpu", "--shape", "3x1x2x8", "--only", "concat/library"])
    assert rows[0]["error"] == pytest.approx(0.1, abs=1e-3)


def test_a_shape_that_a_candidate_is_not_for(schedules):
    rows = schedules.main(["--device", "cpu", "--shape", "3x1x2x8", "--only", "hconv/reshaped"])
    assert rows[0]["note"] == "failed: 3 layers do not fit into 3 positions"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--only", "hconv/winograd"], "--only: expected one of hconv, concat"),
        (["--profile"], "--profile needs a GPU"),
    ],
)
def test_wrong_arguments(schedules, arguments, message, capsys):
    with pytest.raises(SystemExit):
        schedules.main(["--device", "cpu", *arguments])
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_narrow_output_adds_a_product(schedules, dtype):
    candidates = importlib.import_module("schedule_candidates")
    total = torch.ones(4, 6)
    left, right = torch.randn(4, 3).to(dtype), torch.randn(3, 2).to(dtype)
    expected = 1 + (left @ right).float()
    candidates.narrow_output(total[:, 2:4], left, right)
    torch.testing.assert_close(total[:, 2:4], expected)
    assert (total[:, :2] == 1).all()
