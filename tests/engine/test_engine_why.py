"""``why``: what differs between how a cell was trained and the study now."""

import pandas as pd
import pytest

from ssl_bench import cells, provenance
from ssl_bench.errors import StudyError
from ssl_bench.features import compute
from ssl_bench.study import parse
from ssl_bench.why import find, why

CELL = "ks/mini/hconv"


def lines(study, name=CELL):
    return list(why(study, find(study, name)))


@pytest.fixture
def trained(ready):
    study = ready()
    cells.sweep(study, "ks", "mini", "all")
    cells.run(study, "ks", "mini", "all")
    return study


def changed(study, **keys):
    return parse({**study.model_dump(exclude_unset=True), **keys})


def test_a_trained_cell_is_up_to_date_and_a_commit_is_no_reason(trained, monkeypatch):
    assert lines(trained) == ["up to date"]
    before = provenance.commit()
    monkeypatch.setattr("ssl_bench.why.commit", lambda: "other")
    first, second = lines(trained)
    assert first == "up to date"
    assert second == f"(trained by commit {before}, now other: no reason alone)"


def test_a_cell_that_is_not_there(ready):
    (line,) = lines(ready())
    assert line.startswith("not trained: there is no results/")


def test_every_key_that_differs_is_named(trained):
    other = changed(trained, seeds=[0, 1, 2], normalize=False)
    assert lines(other)[:2] == [
        "normalize: true then, false now",
        "seeds: [0, 1] then, [0, 1, 2] now",
    ]
    interfaces = {**trained.interfaces, "hconv": {"kernel_size": 3}}
    (line,) = lines(changed(trained, interfaces=interfaces))
    assert line == "interfaces.hconv.kernel_size: nothing then, 3 now"
    # What another cell alone depends on is none of this one's reasons.
    interfaces = {**trained.interfaces, "weighted_sum": {"normalize": True}}
    assert lines(changed(trained, interfaces=interfaces)) == ["up to date"]


def test_another_choice_of_the_sweep_and_other_data(trained, monkeypatch):
    path = trained.pack_dir("ks", "mini", "all") / "sweep.csv"
    swept = pd.read_csv(path)
    own = swept["interface"] == "hconv"
    was = float(swept.loc[own & swept["chosen"], "learning_rate"].iloc[0])
    swept.loc[own, "chosen"] = ~swept.loc[own, "chosen"]
    swept.to_csv(path, index=False)
    now = float(swept.loc[own & swept["chosen"], "learning_rate"].iloc[0])
    assert lines(trained) == [f"learning rate: {was} then, {now} now"]
    path.unlink()
    (line,) = lines(trained)
    assert line.startswith("learning rates: ")
    assert "sweep.csv" in line
    monkeypatch.setattr("ssl_bench.why.digest", lambda *_: "f00")
    assert lines(trained)[0].startswith("labels, recordings or encoder: digest ")


def test_states_that_are_not_there(trained):
    (trained.features_dir("mini", "tones") / "features.json").unlink()
    (line,) = lines(trained)
    assert line.startswith("states: work/")
    assert line.endswith(
        "features.json: no such file; expected what an earlier stage makes: run that"
    )
    compute(trained, "mini", "tones", cells.torch.device("cpu"))
    assert lines(trained) == ["up to date"]


def test_an_unknown_cell_suggests(ready):
    with pytest.raises(StudyError, match=r"no cell 'ks/mini/hconf'.*did you mean 'ks/mini/hconv'"):
        find(ready(), "ks/mini/hconf")
