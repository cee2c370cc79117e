"""What a plan says of checkpoints is what a training would write down."""

from types import SimpleNamespace

import pytest
import torch

import SSL_Interface
from ssl_bench import cells
from ssl_bench.planning import checkpoints, show, work
from ssl_bench.planning.known import Size
from ssl_bench.runs import Run
from ssl_bench.study import Study
from ssl_bench.training import Course

CPU = torch.device("cpu")


def written(study: Study, interface: str, count: int) -> int:
    """Return the bytes of what a checkpoint of some runs holds of their parameters."""
    stream = cells._open(study, "ks", "mini", CPU)
    runs = [Run(seed, 0.1) for seed in range(count)]
    group = cells._runs(stream, runs, cells._maker(stream, interface), stream.training)
    state = Course(group, stream.training, [run.seed for run in runs]).state()
    kept = ("parameters", "first", "second", "held.")
    return sum(value.nbytes for name, value in state.items() if name.startswith(kept))


@pytest.mark.parametrize("average", [1, 3])
def test_a_prepared_study_is_counted_as_it_is(ready, raw, average: int) -> None:
    keys = {"tasks": {"ks": raw["tasks"]["ks"]}, "interfaces": {"weighted_sum": {}, "hconv": {}}}
    training = {**raw["training"], "average": average}
    study = ready(**keys, cache="disk", seeds=5, training=training)
    expected = written(study, "hconv", 5)
    assert checkpoints.largest(work.make(study)) == (expected, 0, 0)
    live = ready(**keys, cache="live", seeds=5, training=training)
    both = expected + written(live, "weighted_sum", 5)
    assert checkpoints.largest(work.make(live)).bytes == both
    each = ready(**keys, cache="live", seeds=5, training=training, job="interface")
    assert checkpoints.largest(work.make(each)).bytes == expected


def test_the_sweep_counts_where_it_is_larger(ready, raw) -> None:
    keys = {"tasks": {"ks": raw["tasks"]["ks"]}, "interfaces": ["hconv"], "cache": "disk"}
    sweep = {"learning_rates": [1e-3, 1e-2, 1e-1], "seeds": [0, 1], "steps": 0.5}
    study = ready(**keys, seeds=2, sweep=sweep)
    assert checkpoints.largest(work.make(study)).bytes == written(study, "hconv", 6)


def test_what_is_not_known_is_said(ready, raw, monkeypatch, capsys) -> None:
    study = ready(name="never-run", interfaces=["hconv", "concat"], seeds=5)
    monkeypatch.setattr(work, "upstream_size", lambda *_: Size(13, 768, 320))
    monkeypatch.setattr(checkpoints, "upstream_size", lambda *_: Size(13, 768, 320))
    monkeypatch.setattr(checkpoints, "_task", lambda *_: None)
    one = study.model_copy(update={"interfaces": {"hconv": {}}})
    found = checkpoints.largest(work.make(one))
    assert found == (5 * 4_424_832 * 16, 0, len(study.tasks))
    show.show(work.make(one))
    said = f"checkpoints of a job, at most 0.4 GB the heads of {len(study.tasks)} tasks"
    assert said in " ".join(capsys.readouterr().out.split())
    monkeypatch.setattr(checkpoints, "upstream_size", lambda *_: None)
    assert checkpoints.largest(work.make(study)) == (0.0, len(study.cells()), 0)


@pytest.mark.parametrize("name", SSL_Interface.names())
def test_every_interface_can_be_counted_without_its_memory(name: str) -> None:
    study = SimpleNamespace(interface_options=lambda name: (name, {}))
    made = checkpoints._interface(study, name, Size(13, 96, 320))
    real = SSL_Interface.create(name, num_layers=13, dim=96)
    assert checkpoints._count(made) == real.parameter_count()
    assert made.output_dim == real.output_dim
