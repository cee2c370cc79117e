"""Whose word counts: the task's entry, the study, the published recipe of the task's kind."""

import pytest

from ssl_bench import registry
from ssl_bench.errors import StudyError
from ssl_bench.recipe import Recipe, Training, settle
from ssl_bench.study import Study, parse

KINDS = registry.kinds("tasks")
PUBLISHED = Training(steps=100, batch_utterances=32, clip=5.0, select="dev_loss", average=5)


def study(training: dict | None = None, task: dict | None = None, **keys: object) -> Study:
    raw = {
        "name": "small",
        "seeds": 1,
        "corpora": {"words": {"kind": "synthetic", "recipe": "keywords", "train": 40}},
        "upstreams": {"fbank": {"kind": "fbank"}},
        "tasks": {"t": {"kind": "sv", "corpus": "words", **(task or {})}},
        "interfaces": ["last"],
        "training": training or {},
        "sweep": {},
        **keys,
    }
    return parse(raw)


# ---- precedence


def test_a_task_without_more_is_the_published_recipe() -> None:
    found = study().training_of("t")
    assert (found.steps, found.batch_utterances, found.optimizer) == (200_000, 50, "adamw")
    assert (found.clip, found.weight_decay, found.crop_seconds) == (1000, 0.01, 8)
    assert (found.min_seconds, found.layer_weight_scale) == (2, 1)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_has_a_recipe(kind: str) -> None:
    recipe = registry.load("tasks", kind).RECIPE
    assert isinstance(recipe, Recipe)
    assert recipe.learning_rate in recipe.learning_rates
    assert recipe.training.batch_utterances is not None
    assert recipe.training.layer_weight_scale == 1  # one learning rate for all
    assert recipe.training.not_finite == "skip"
    assert list(recipe.training.conflicts()) == []
    assert settle(recipe.training) == recipe.training.model_copy()


def test_the_task_is_above_the_study_and_the_study_above_the_recipe() -> None:
    made = study({"steps": 7, "clip": 2.0}, {"training": {"clip": 3.0, "crop_seconds": None}})
    found = made.training_of("t")
    assert (found.steps, found.clip, found.crop_seconds, found.optimizer) == (7, 3, None, "adamw")


def test_whoever_says_one_size_of_a_batch_has_said_both() -> None:
    seconds = settle(PUBLISHED, Training(batch_seconds=9.0))
    assert (seconds.batch_seconds, seconds.batch_utterances) == (9, None)
    back = settle(PUBLISHED, Training(batch_seconds=9.0), Training(batch_utterances=4))
    assert (back.batch_seconds, back.batch_utterances) == (None, 4)
    assert settle(Training()).batch_seconds == 128


def test_a_size_of_a_batch_unsays_how_it_is_made_up() -> None:
    recipe = Training(batch_utterances=32, batches="sorted", neighbours=8)
    assert settle(recipe, Training(steps=3)).neighbours == 8
    smaller = settle(recipe, Training(batch_utterances=12))
    assert (smaller.batches, smaller.neighbours) == ("sorted", None)
    seconds = settle(recipe, Training(batch_seconds=9.0))
    assert (seconds.batches, seconds.neighbours) == ("buckets", None)
    other = settle(recipe, Training(batches="random"))
    assert (other.batches, other.neighbours, other.batch_utterances) == ("random", None, 32)
    shared = Training(batch_utterances=32, batches="sorted", neighbours=8, last_batch="shared")
    assert settle(shared, Training(batch_utterances=12)).last_batch == "shared"
    assert settle(shared, Training(batch_seconds=9.0)).last_batch == "filled"
    assert settle(shared, Training(batches="random")).last_batch == "filled"
    long = Training(batch_utterances=32, batches="sliding", halve_seconds=9.0)
    assert settle(long, Training(batch_seconds=9.0)).halve_seconds is None
    assert list(settle(long, Training(batches="sorted")).conflicts()) == []
    padded = Training(batch_utterances=32, batches="sorted", neighbours=8, padding="group")
    assert settle(padded, Training(steps=3)).padding == "group"
    for level in (
        Training(batch_utterances=12),
        Training(batch_seconds=9.0),
        Training(batches="sorted"),
    ):
        found = settle(padded, level)
        assert (found.padding, list(found.conflicts())) == ("own", [])
    assert settle(padded, Training(batches="sorted", padding="group")).padding == "group"
    own = settle(recipe, Training(batch_utterances=12, neighbours=4))
    assert (own.batches, own.neighbours) == ("sorted", 4)


def test_no_recipe_leaves_the_engines_defaults() -> None:
    found = settle(PUBLISHED, Training(recipe="none", steps=3))
    assert found == Training(recipe="none", steps=3, batch_seconds=128.0)
    again = settle(PUBLISHED, Training(recipe="none", steps=3), Training(recipe="published"))
    assert (again.clip, again.steps) == (5, 3)


def test_the_two_sizes_exclude_each_other() -> None:
    with pytest.raises(
        StudyError, match=r"expected batch_seconds or batch_utterances.*found {'batch_seconds': 9"
    ):
        study({"batch_seconds": 9.0, "batch_utterances": 3})


@pytest.mark.parametrize(
    ("kind", "key", "value", "part"),
    [
        (
            "pr",
            "balance",
            True,
            "tasks.t: training: balance: expected false, for 'pr' has no classes",
        ),
        ("sv", "select", "dev_loss", "tasks.t: training: select: 'sv' has no loss on dev"),
    ],
)
def test_what_a_kind_cannot_do(kind: str, key: str, value: object, part: str) -> None:
    with pytest.raises(StudyError) as caught:
        study({key: value}, {"kind": kind})
    assert part in str(caught.value)


# ---- learning rates


def test_learning_rates_are_the_tasks_own_the_studys_or_the_published() -> None:
    assert study().rates_of("t") == registry.load("tasks", "sv").RECIPE.learning_rates
    given = study(sweep={"learning_rates": [1e-3]})
    assert given.rates_of("t") == (1e-3,)
    own = study(None, {"learning_rates": [0.5, 0.25]}, sweep={"learning_rates": [1e-3]})
    assert own.rates_of("t") == (0.5, 0.25)
    assert own.fingerprint(own.cells()[0]) != given.fingerprint(given.cells()[0])
    with pytest.raises(StudyError, match=r"tasks\.t\.learning_rates: expected each once"):
        study(None, {"learning_rates": [0.5, 0.5]})
    with pytest.raises(StudyError, match=r"tasks\.t: learning_rates"):
        study(None, {"learning_rates": ["fast"]})


def test_a_kind_that_publishes_nothing(monkeypatch) -> None:
    monkeypatch.delattr(registry.load("tasks", "sv"), "RECIPE")
    given = study({"steps": 7}, sweep={"learning_rates": [1e-3]})
    assert given.training_of("t") == Training(steps=7, batch_seconds=128.0)
    with pytest.raises(
        StudyError, match=r"tasks\.t: learning_rates: found none, and its kind publishes"
    ):
        study()


# ---- what is written for the jobs


def test_the_jobs_read_the_same_training(tmp_path, monkeypatch) -> None:
    from ssl_bench.study import load, save

    monkeypatch.chdir(tmp_path)
    made = study({"steps": 7, "crop_seconds": None})
    save(made)
    read = load(made.resolved)
    assert read.training_of("t") == made.training_of("t")
    assert read.training_of("t").crop_seconds is None
    assert read.training_of("t").clip == 1000
    assert read.slice(*made.cells()[0]) == made.slice(*made.cells()[0])


def test_keys_that_came_later_are_no_part_of_a_cell_where_they_do_nothing() -> None:
    plain = Training(batch_seconds=9.0).identity()
    assert "recipe" not in plain
    assert set(plain) == {
        *("steps", "batch_seconds", "buckets", "optimizer", "weight_decay", "clip"),
        *("warmup", "schedule", "layer_weight_scale", "evaluations"),
    }
    later = [
        ("batches", "random"),
        ("neighbours", 8),
        ("last_batch", "smaller"),
        ("halve_seconds", 18.75),
        ("padding", "group"),
        ("crop_seconds", 8.0),
        ("encode", "group"),
        ("frames", "ceil"),
        ("precision", "fp32"),
        ("average", 5),
        ("not_finite", "skip"),
    ]
    for key, value in later:
        assert Training(batch_seconds=9.0, **{key: value}).identity() == {**plain, key: value}


# ---- averages


def test_averages_name_tasks() -> None:
    assert study(averages={"er": ["t"]}).averages == {"er": {"t": ["t"]}}
    assert study(averages={"er": {"a": ["t"]}}).averages == {"er": {"a": ["t"]}}
    with pytest.raises(StudyError, match=r"averages\.er: unknown task 'x'"):
        study(averages={"er": ["x"]})
    with pytest.raises(StudyError, match=r"averages\.er: expected tasks, each once"):
        study(averages={"er": {"a": ["t"], "b": ["t"]}})
    with pytest.raises(StudyError, match=r"averages\.t: found a task of this name"):
        study(averages={"t": ["t"]})
