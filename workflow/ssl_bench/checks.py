"""What is wrong with a study that its models alone cannot see."""

import re
from collections.abc import Iterator
from pathlib import Path

from ssl_bench import registry
from ssl_bench.errors import suggest
from ssl_bench.study import NAME, Study

SIZES = ((13, 16), (13, 768), (25, 1024), (49, 1280))
"""(L, D) that an interface's options are tried on: an option is good if one of them takes it."""


def problems(study: Study) -> Iterator[str]:
    """Yield what the models alone cannot see, a line each; typed entries raise by themselves."""
    for corpus in study.corpora:
        study.corpus_config(corpus)
    for upstream in study.upstreams:
        study.upstream_config(upstream)
        yield from _tuning_problems(study, upstream)
    for task in study.tasks:
        study.task_config(task)
        study.training_of(task)
        yield from _training_problems(study, task)
        yield from _enlarging_problems(study, task)
        study.rates_of(task)
        listed = study.tasks[task].get("learning_rates") or ()
        yield from _repeated({f"tasks.{task}.learning_rates": listed})
        if (job := study.tasks[task].get("job", study.job)) not in ("interface", "stream"):
            yield f"tasks.{task}.job: expected interface or stream, found {job!r}"
        corpus = study.tasks[task]["corpus"]
        if corpus not in study.corpora:
            yield f"tasks.{task}.corpus: unknown {corpus!r}; {suggest(corpus, study.corpora)}"
    for upstream, corpus in study.similarity.items():
        if upstream not in study.upstreams:
            yield f"similarity: unknown upstream {upstream!r}; {suggest(upstream, study.upstreams)}"
        if corpus not in study.corpora:
            yield f"similarity.{upstream}: unknown {corpus!r}; {suggest(corpus, study.corpora)}"
    yield from _selection_problems(study)
    for name, groups in study.averages.items():
        listed = [task for tasks in groups.values() for task in tasks]
        for task in listed:
            if task not in study.tasks:
                yield f"averages.{name}: unknown task {task!r}; {suggest(task, study.tasks)}"
        if not listed or len(set(listed)) < len(listed):
            yield f"averages.{name}: expected tasks, each once, found {listed}"
        if name in study.tasks:
            yield f"averages.{name}: found a task of this name, expected another name"
    yield from _interface_problems(study)
    yield from _fitted_problems(study)
    for axis in ("corpora", "upstreams", "tasks", "interfaces"):
        for name in getattr(study, axis):
            if name == "all" or not re.fullmatch(NAME, name):
                yield (
                    f"{axis}.{name}: not a usable name, for it becomes a folder: expected lower "
                    f"case letters, digits, _ . - and not 'all', found {name!r}"
                )
    once: dict[str, tuple[float, ...]] = {"seeds": study.seeds}
    if study.sweep is not None:
        once |= {"sweep.seeds": study.sweep.seeds}
        once |= {"sweep.learning_rates": study.sweep.learning_rates or ()}
    elif study.learning_rates is None:
        yield (
            "sweep: missing; expected sweep ({} tries each task's published learning rates) or "
            "learning_rates (a table of chosen ones), found neither"
        )
    elif not Path(study.learning_rates.table).is_file():
        yield f"learning_rates: {study.learning_rates.table}: no such file; expected a CSV of rates"
    yield from _repeated(once)


def _selection_problems(study: Study) -> Iterator[str]:
    """Look at the keys ``interfaces`` of upstreams and tasks."""
    lists = {
        f"{axis}.{name}.interfaces": entry["interfaces"]
        for axis in ("upstreams", "tasks")
        for name, entry in getattr(study, axis).items()
        if "interfaces" in entry
    }
    for task in study.tasks:
        where = f"tasks.{task}.interfaces"
        if not isinstance(lists.get(where), dict):
            continue
        of_upstreams = lists.pop(where)
        for upstream, listed in of_upstreams.items():
            if upstream not in study.upstreams:
                hint = suggest(str(upstream), study.upstreams)
                yield f"{where}: unknown upstream {upstream!r}; {hint}"
            lists[f"{where}.{upstream}"] = listed
    for where, listed in lists.items():
        if not isinstance(listed, list):
            yield f"{where}: expected a list, found {listed!r}"
        for interface in listed:
            if not isinstance(interface, str) or interface not in study.interfaces:
                hint = suggest(str(interface), study.interfaces)
                yield f"{where}: unknown {interface!r}; {hint}"
        if len(set(listed)) < len(listed):
            yield f"{where}: expected each once, found {listed}"


def _repeated(once: dict[str, tuple[float, ...]]) -> Iterator[str]:
    for key, values in once.items():
        if len(set(values)) < len(values):
            yield f"{key}: expected each once, found {list(values)}"


def _training_problems(study: Study, task: str) -> Iterator[str]:
    training, kind = study.training_of(task), study.tasks[task]["kind"]
    made = registry.load("tasks", kind).Task
    where = f"tasks.{task}: training"
    if training.balance and not made.has_classes:
        yield f"{where}: balance: expected false, for {kind!r} has no classes; found true"
    if training.select == "dev_loss" and not made.has_dev_loss:
        yield f"{where}: select: {kind!r} has no loss on dev; expected dev_metric or last"
    yield from (f"{where}: {line}" for line in training.conflicts())
    if training.encode == "alone":
        return
    for name in study.upstreams:
        kind, named = study.upstreams[name]["kind"], f"{where}: encode: 'group': upstreams.{name}"
        if not study.interfaces_of(task, name):
            continue
        if kind != "s3prl":
            yield f"{named}: expected kind 's3prl', which pads as its loop does; found {kind!r}"
        elif study.fine_tune_of(name) is not None:
            yield f"{named}: expected a frozen upstream, found fine_tune"


def _enlarging_problems(study: Study, task: str) -> Iterator[str]:
    entry = study.tasks[task]
    if "enlarge_by" not in entry:
        return
    where, kind, by = f"tasks.{task}.enlarge_by", entry["kind"], entry["enlarge_by"]
    if not isinstance(by, str):
        yield f"{where}: expected the name of an interface, found {by!r}"
    if by not in study.interfaces:
        yield f"{where}: unknown {by!r}; {suggest(by, study.interfaces)}"
    if study.interface_options(by)[1].get("layer") == "each":
        yield f"{where}: {by!r} is a probe of each layer; expected one interface"
    widths = {k: registry.load("tasks", k).Task.inner_width for k in registry.kinds("tasks")}
    if widths[kind] is None:
        able = ", ".join(k for k, width in widths.items() if width is not None)
        yield f"{where}: {kind!r} has no inner width to enlarge; kinds that have: {able}"


def _tuning_problems(study: Study, upstream: str) -> Iterator[str]:
    if study.fine_tune_of(upstream) is None:
        return
    found = study.upstreams[upstream]["kind"]
    able = [
        k for k in registry.kinds("upstreams") if hasattr(registry.load("upstreams", k), "parts")
    ]
    if found not in able:
        yield f"upstreams.{upstream}: fine_tune: {found!r} has no weights; known: {', '.join(able)}"


def _fitted_problems(study: Study) -> Iterator[str]:
    import SSL_Interface

    for task, upstream, interface in study.cells():
        kind = study.interface_options(interface)[0]
        if study.fine_tune_of(upstream) is not None and SSL_Interface.find(kind).needs_fit:
            yield (
                f"upstreams.{upstream}: fine_tune: {interface!r} of tasks.{task} is fitted on "
                "states that stay as they are; expected it to be left out by interfaces: […]"
            )


def _interface_problems(study: Study) -> Iterator[str]:
    import SSL_Interface

    for name in study.interfaces:
        given = study.interfaces[name].get("kind", name)
        if not isinstance(given, str):
            yield f"interfaces.{name}: kind: expected a name, found {given!r}"
        kind, options = study.interface_options(name)
        if kind not in SSL_Interface.names():
            yield f"interfaces.{name}: unknown {kind!r}; {suggest(kind, SSL_Interface.names())}"
        if options.get("layer") == "each":
            options = {**options, "layer": 0}
        for num_layers, dim in SIZES:
            try:
                SSL_Interface.create(kind, num_layers=num_layers, dim=dim, **options)
            except (TypeError, ValueError) as error:
                problem = f"interfaces.{name}: {error}"
            else:
                break
        else:
            yield problem
