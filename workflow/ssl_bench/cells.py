"""The sweep and train stages: the cells of one (task, upstream), over one stream of features.

A finished cell is a folder of its own inside the job's folder, written whole or not at all and
stamped with the fingerprint of everything that determines it: a job that was interrupted, or that
gained an interface, trains only the cells that are missing.
"""

import copy
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

import SSL_Interface
from ssl_bench import enlarging
from ssl_bench.checkpoints import Checkpoints, discard
from ssl_bench.company import Company
from ssl_bench.corpus import make_task
from ssl_bench.crops import Crops
from ssl_bench.device import demand_bf16, lease
from ssl_bench.errors import StudyError
from ssl_bench.evaluation import evaluate
from ssl_bench.features import open_features
from ssl_bench.fine_tuning import TunedRuns, Waveforms, open_waveforms
from ssl_bench.heads.padding import pad_by_group
from ssl_bench.leaving import Left, Part
from ssl_bench.lengths import counted
from ssl_bench.prefetch import prefetch
from ssl_bench.progress import say
from ssl_bench.rates import chosen_rates
from ssl_bench.read_back import csv_of, json_of, parquet_of
from ssl_bench.recipe import Training
from ssl_bench.runs import Joined, Run, Runs
from ssl_bench.sampling import evaluation_batches
from ssl_bench.spending import Spending
from ssl_bench.stamps import stamp
from ssl_bench.stream import Stream, enlarged
from ssl_bench.study import Cell, Study
from ssl_bench.training import train
from ssl_bench.turns import parts, turns
from ssl_bench.whole import whole

Chosen = dict[str, dict[int | None, float]]
"""The learning rate of every interface, of each of its layers where single ones are probed."""


def sweep(study: Study, task: str, upstream: str, pack: str) -> None:
    """Try every learning rate for each interface; write ``sweep.csv`` with the choice marked.

    An interface's part is kept in ``.sweeps`` as soon as it is done, for a job that starts again.
    """
    if study.sweep is None:
        raise StudyError(
            "sweep: expected a study with a sweep, found learning_rates, which names a table"
        )
    folder = study.pack_dir(task, upstream, pack)
    kept = folder / ".sweeps"
    names = study.interfaces_in(task, upstream, pack)
    with lease(study.device) as device:
        stamps = {name: stamp(study, Cell(task, upstream, name), {}) for name in names}
        missing = [name for name in names if not _swept(kept / f"{name}.csv", stamps[name])]
        if missing:
            stream = _open(study, task, upstream, device)
            runs = {name: _swept_runs(stream, name) for name in missing}
            for turn in turns(stream.features, stream.training, runs):
                for interface, swept in _sweep_cells(stream, turn).items():
                    with whole(kept / f"{interface}.csv") as partial:
                        swept.assign(stamp=stamps[interface]).to_csv(partial, index=False)
                discard(study.checkpoint_dir("sweep", Cell(task, upstream, next(iter(turn)))))
    for name in names:
        discard(study.checkpoint_dir("sweep", Cell(task, upstream, name)))
    # As text: a number that is neither read nor written keeps its digits.
    tables = [pd.read_csv(kept / f"{name}.csv", dtype=str) for name in names]
    with whole(folder / "sweep.csv") as partial:
        pd.concat(tables).drop(columns="stamp").to_csv(partial, index=False)


def _swept_runs(stream: Stream, interface: str) -> list[Run]:
    """Return an interface's runs of the sweep."""
    sweep = stream.study.sweep
    assert sweep is not None
    return [
        Run(seed, rate, layer)
        for layer in _layers(stream, interface)
        for rate in stream.study.rates_of(stream.task_name)
        for seed in sweep.seeds
    ]


def _final_runs(stream: Stream, interface: str, rates: dict[int | None, float]) -> list[Run]:
    """Return an interface's runs at its chosen rates."""
    return [
        Run(seed, rates[layer], layer)
        for layer in _layers(stream, interface)
        for seed in stream.study.seeds
    ]


def _sweep_cells(stream: Stream, runs: dict[str, list[Run]]) -> dict[str, pd.DataFrame]:
    """Train interfaces at every learning rate → for each a row a run, the choice marked."""
    sweep = stream.study.sweep
    assert sweep is not None
    steps = max(1, round(stream.training.steps * sweep.steps))
    short = stream.training.model_copy(update={"steps": steps})
    rows: dict[str, list[dict]] = {interface: [] for interface in runs}
    for part in chain.from_iterable(_train(stream, "sweep", runs, short, {})):
        rows[part.interface] += [
            {
                "task": stream.task_name,
                "upstream": stream.upstream,
                "interface": part.interface,
                "layer": run.layer,
                "learning_rate": run.learning_rate,
                "seed": run.seed,
                "dev": dev,
            }
            for run, dev in zip(part.group.runs, part.trained.dev, strict=True)
        ]
    return {
        interface: _mark_best(
            pd.DataFrame(found).astype({"layer": "Int64"}), stream.task.higher_is_better
        )
        for interface, found in rows.items()
    }


def _train(
    stream: Stream,
    stage: str,
    runs: dict[str, list[Run]],
    training: Training,
    chosen: Chosen,
    spending: Spending | None = None,
) -> Iterator[list[Part]]:
    """Train all runs, those of several interfaces at once; yield what was trained together."""
    makers = {interface: _maker(stream, interface) for interface in runs}
    kept = _checkpoints(stream, stage, list(runs), chosen, training.steps, spending)
    stacked = [
        (interface, number, part)
        for interface, own in runs.items()
        for number, part in enumerate(parts(stream.features, own))
    ]
    rounds = [stacked] if len(runs) > 1 else [[part] for part in stacked]
    for turn, those in enumerate(rounds):
        groups = [_runs(stream, part, makers[interface], training) for interface, _, part in those]
        everybody = [run for _, _, part in those for run in part]
        with kept.keeper(turn, everybody) as keeper:
            trained = train(
                groups,
                stream.task,
                stream.scored,
                stream.rows,
                training,
                kept.label,
                keeper,
                stream.heard,
            )
        yield [
            Part(interface, number, group, found)
            for (interface, number, _), group, found in zip(those, groups, trained, strict=True)
        ]


def run(study: Study, task: str, upstream: str, pack: str) -> None:
    """Train every seed of each interface at its chosen learning rate; write ``train.csv``.

    Each cell's folder gets ``metrics.json``, ``scores.parquet``, ``history.csv``,
    ``layer_profile.csv`` and ``weights.safetensors`` (parameters stacked over runs).
    """
    folder = study.pack_dir(task, upstream, pack)
    chosen = chosen_rates(study, task, upstream, pack)
    names = study.interfaces_in(task, upstream, pack)
    with lease(study.device) as device:
        missing = [
            name
            for name in names
            if not _finished(folder / name, stamp(study, Cell(task, upstream, name), chosen[name]))
        ]
        if missing:
            stream = _open(study, task, upstream, device)
            runs = {name: _final_runs(stream, name, chosen[name]) for name in missing}
            for turn in turns(stream.features, stream.training, runs):
                _train_cells(stream, folder, turn, chosen)
                discard(study.checkpoint_dir("train", Cell(task, upstream, next(iter(turn)))))
    rows = []
    for name in names:
        discard(study.checkpoint_dir("train", Cell(task, upstream, name)))
        rows += json.loads((folder / name / "metrics.json").read_text())["runs"]
    with whole(folder / "train.csv") as partial:
        pd.DataFrame(rows).to_csv(partial, index=False)


def _train_cells(stream: Stream, folder: Path, runs: dict[str, list[Run]], chosen: Chosen) -> None:
    """Train the seeds of some interfaces and write each one's folder.

    Raises:
        StudyError: a run was lost; the cells of the other interfaces are written.
    """
    spending = Spending(stream.device)
    left = {name: Left(Cell(stream.task_name, stream.upstream, name)) for name in runs}
    lost = None
    for turn in _train(stream, "train", runs, stream.training, chosen, spending):
        whole = [part for part in turn if not np.isnan(part.trained.dev).any()]
        tests = evaluate(
            [part.group for part in whole],
            *(stream.task, stream.scored, stream.rows, "test", stream.training.scored_seconds),
            together=stream.training.scored_together,
        )
        for part, scored in zip(whole, tests, strict=True):
            left[part.interface].add(stream, part, scored.tables)
        for part in turn:
            if part not in whole:
                lost = lost or part
                left.pop(part.interface, None)
    spent, count = spending.now(), sum(map(len, runs.values()))
    for interface, own in left.items():
        share = len(runs[interface]) / count
        own.write(stream, folder / interface, chosen[interface], spent, share)
    if lost:
        one = lost.group.runs[int(np.isnan(lost.trained.dev).argmax())]
        raise StudyError(
            f"train {stream.task_name} {stream.upstream} {lost.interface}: the loss of seed "
            f"{one.seed} is not finite at learning rate {one.learning_rate:g}; give the sweep "
            "smaller learning rates"
        )


def _open(study: Study, task: str, upstream: str, device: torch.device) -> Stream:
    config = study.task_config(task)
    table = parquet_of(study.corpus_dir(config.corpus) / "table.parquet")
    made = make_task(study, task, table)
    rows = {name: row for row, name in enumerate(table["id"])}
    opened = open_features if study.fine_tune_of(upstream) is None else open_waveforms
    features = opened(study, upstream, config.corpus, device)
    training, heard = study.training_of(task), features
    seconds = training.crop_seconds if training.crops else None
    if isinstance(features, Waveforms):
        heard = features if seconds is None else features.cropping(seconds)
    elif training.encodes:
        kind = Company if training.encode == "group" else Crops
        heard = kind.open(study, upstream, config.corpus, features, seconds)
    features, heard = (counted(each, table, training.frames) for each in (features, heard))
    scored = features if training.scored_together is None else replace(heard, cropped=None)
    return Stream(study, task, upstream, made, features, rows, training, device, heard, scored)


def _maker(stream: Stream, interface: str) -> Callable[[], Joined]:
    """Return what makes one run's modules, its weights from torch's global RNG."""
    features = stream.features
    kind, options = stream.study.interface_options(interface)
    layers = features.layers
    if options.get("layer") == "each":
        kind, layers = "last", 1
        options = {key: value for key, value in options.items() if key != "layer"}
    options = {"normalize": False, **options}  # the stream has done it, or the study wants it raw
    try:
        first = SSL_Interface.create(kind, num_layers=layers, dim=features.dim, **options)
    except ValueError as error:
        raise StudyError(f"interfaces.{interface} on {stream.upstream}: {error}") from None
    if first.needs_fit:
        fitted: Any = first.to(stream.device)
        ids = stream.task.ids("train")
        own = np.array([stream.rows[name] for name in ids])
        width = int(stream.training.scored_seconds / features.seconds_per_frame)
        batches = evaluation_batches(own, features.frames[own], width)
        for _, states, lengths in prefetch(features, batches):
            fitted.fit_batch(states, lengths)
        fitted.fit_finish()

    larger = enlarged(stream, first)
    if larger is not None:
        say(f"{stream.task_name} {stream.upstream} {interface}: {larger}")

    def make() -> Joined:
        if first.needs_fit:
            joined = copy.deepcopy(first)
        else:
            joined = SSL_Interface.create(kind, num_layers=layers, dim=features.dim, **options)
        head = enlarging.head(stream.task, first.output_dim, larger)
        if stream.training.padding == "group":
            pad_by_group(head, stream.training.accumulated)
        return Joined(joined, head)

    return make


def _runs(stream: Stream, part: list[Run], make: Callable[[], Joined], training: Training) -> Runs:
    if stream.device.type == "cuda":
        # What the last group held, its recorded steps too, is given back to jobs beside this one.
        torch.cuda.empty_cache()
    options: dict[str, Any] = {
        "weight_decay": training.weight_decay,
        "decoupled": training.optimizer == "adamw",
        "clip": training.clip,
        "layer_weight_scale": training.layer_weight_scale,
        "autocast": training.precision == "bf16",
        "skip": training.not_finite == "skip",
    }
    if training.precision == "bf16":
        demand_bf16(stream.device, "training.precision: bf16", "fp32")
    if isinstance(stream.features, Waveforms):
        return TunedRuns(part, make, stream.features, **options)
    return Runs(part, make, stream.device, stackable=stream.task.stackable, **options)


def _checkpoints(
    stream: Stream,
    stage: str,
    interfaces: list[str],
    chosen: Chosen,
    steps: int,
    spending: Spending | None,
) -> Checkpoints:
    """Return the checkpoints of what is trained together; they lie with the first interface."""
    cells = [Cell(stream.task_name, stream.upstream, interface) for interface in interfaces]
    stamps = [stamp(stream.study, cell, chosen.get(cell.interface, {})) for cell in cells]
    return Checkpoints(
        stream.study.checkpoint_dir(stage, cells[0]),
        f"{stage} {stream.task_name} {stream.upstream} {' '.join(interfaces)}",
        stream.device,
        steps,
        spending,
        stage=stage,
        cell=" ".join(stamps),
    )


def _layers(stream: Stream, interface: str) -> list[int | None]:
    if stream.study.interface_options(interface)[1].get("layer") == "each":
        return list(range(stream.features.layers))
    return [None]


def _mark_best(frame: pd.DataFrame, higher_is_better: bool) -> pd.DataFrame:
    """Mark the learning rate of best mean dev value, for each layer where there are several."""
    sign = 1.0 if higher_is_better else -1.0
    keyed = frame.assign(
        layer=frame["layer"].astype("Int64"),
        group=frame["layer"].astype("Int64").fillna(-1).astype(int),
        merit=(sign * frame["dev"]).fillna(-np.inf),
    )
    mean = keyed.groupby(["group", "learning_rate"])["merit"].transform("mean")
    best = mean.groupby(keyed["group"]).transform("max")
    rate = keyed["learning_rate"].where(mean == best).groupby(keyed["group"]).transform("min")
    keyed["chosen"] = keyed["learning_rate"] == rate
    return keyed.drop(columns=["group", "merit"])


def _finished(place: Path, stamp: str) -> bool:
    path = place / "metrics.json"
    try:
        return path.is_file() and json_of(path)["stamp"] == stamp
    except StudyError as error:
        say(f"{error}: trained anew")
        return False


def _swept(place: Path, stamp: str) -> bool:
    try:
        return place.is_file() and set(csv_of(place, ["stamp"], dtype=str)["stamp"]) == {stamp}
    except StudyError as error:
        say(f"{error}: swept anew")
        return False
