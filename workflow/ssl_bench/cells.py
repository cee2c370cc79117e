"""The sweep and train stages: the cells of one (task, upstream), over one stream of features.

A finished cell is a folder of its own inside the job's folder, written whole or not at all and
stamped with the fingerprint of everything that determines it: a job that was interrupted, or that
gained an interface, trains only the cells that are missing.
"""

import copy
import json
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from safetensors.torch import save_file

import ssl_bench
import SSL_Interface
from ssl_bench import enlarging
from ssl_bench.checkpoints import Checkpoints, discard
from ssl_bench.corpus import make_task
from ssl_bench.device import lease
from ssl_bench.errors import StudyError
from ssl_bench.evaluation import evaluate
from ssl_bench.features import Features, open_features
from ssl_bench.fine_tuning import TunedRuns, Waveforms, open_waveforms
from ssl_bench.profiles import layer_profiles
from ssl_bench.progress import say
from ssl_bench.provenance import commit
from ssl_bench.rates import chosen_rates
from ssl_bench.recipe import Training
from ssl_bench.runs import Joined, Run, Runs
from ssl_bench.sampling import evaluation_batches
from ssl_bench.study import Cell, Study
from ssl_bench.tasks.base import Task
from ssl_bench.training import Trained, train
from ssl_bench.whole import whole, whole_folder

STACKED = 64
"""Most runs that are trained at once; more are trained in turns."""


@dataclass
class Stream:
    """What the cells of one (task, upstream) share."""

    study: Study
    task_name: str
    upstream: str
    task: Task
    features: Features
    rows: dict[str, int]
    training: Training
    device: torch.device


def sweep(study: Study, task: str, upstream: str, pack: str) -> None:
    """Try every learning rate for each interface; write ``sweep.csv`` with the choice marked.

    An interface's part is kept in ``.sweeps`` as soon as it is done, for a job that starts again.
    """
    if study.sweep is None:
        raise StudyError(f"sweep: the study has no sweep; it takes {study.learning_rates}")
    folder = study.pack_dir(task, upstream, pack)
    kept = folder / ".sweeps"
    tables = []
    with lease(study.device) as device:
        stream: Stream | None = None
        for interface in study.interfaces_in(task, upstream, pack):
            place = kept / f"{interface}.csv"
            cell = Cell(task, upstream, interface)
            stamp = _stamp(study, cell, {})
            if not place.is_file() or pd.read_csv(place)["stamp"].iloc[0] != stamp:
                stream = stream or _open(study, task, upstream, device)
                swept = _sweep_cell(stream, interface).assign(stamp=stamp)
                with whole(place) as partial:
                    swept.to_csv(partial, index=False)
            discard(study.checkpoint_dir("sweep", cell))
            part = pd.read_csv(place, dtype={"layer": "Int64"}, float_precision="round_trip")
            tables.append(part.drop(columns="stamp"))
    with whole(folder / "sweep.csv") as partial:
        pd.concat(tables).to_csv(partial, index=False)


def _sweep_cell(stream: Stream, interface: str) -> pd.DataFrame:
    """Train an interface at every learning rate → a row a run, the choice marked."""
    study, sweep = stream.study, stream.study.sweep
    assert sweep is not None
    steps = max(1, round(stream.training.steps * sweep.steps))
    short = stream.training.model_copy(update={"steps": steps})
    runs = [
        Run(seed, rate, layer)
        for layer in _layers(stream, interface)
        for rate in study.rates_of(stream.task_name)
        for seed in sweep.seeds
    ]
    make = _maker(stream, interface)
    label = f"sweep {stream.task_name} {stream.upstream} {interface}"
    kept = _checkpoints(stream, "sweep", interface, {}, short.steps)
    rows = []
    for number, part in enumerate(_parts(stream, runs)):
        group = _runs(stream, part, make, short)
        with kept.keeper(number, part) as keeper:
            trained = train(group, stream.task, stream.features, stream.rows, short, label, keeper)
        rows += [
            {
                "task": stream.task_name,
                "upstream": stream.upstream,
                "interface": interface,
                "layer": run.layer,
                "learning_rate": run.learning_rate,
                "seed": run.seed,
                "dev": dev,
            }
            for run, dev in zip(part, trained.dev, strict=True)
        ]
    frame = pd.DataFrame(rows).astype({"layer": "Int64"})
    return _mark_best(frame, stream.task.higher_is_better)


def run(study: Study, task: str, upstream: str, pack: str) -> None:
    """Train every seed of each interface at its chosen learning rate; write ``train.csv``.

    Each cell's folder gets ``metrics.json``, ``scores.parquet``, ``history.csv``,
    ``layer_profile.csv`` and ``weights.safetensors`` (parameters stacked over runs).
    """
    folder = study.pack_dir(task, upstream, pack)
    chosen = chosen_rates(study, task, upstream, pack)
    rows = []
    with lease(study.device) as device:
        stream: Stream | None = None
        for interface in study.interfaces_in(task, upstream, pack):
            cell = Cell(task, upstream, interface)
            place = folder / interface
            if not _finished(place, _stamp(study, cell, chosen[interface])):
                stream = stream or _open(study, task, upstream, device)
                _train_cell(stream, cell, place, chosen[interface])
            discard(study.checkpoint_dir("train", cell))
            about = json.loads((place / "metrics.json").read_text())
            rows += about["runs"]
    with whole(folder / "train.csv") as partial:
        pd.DataFrame(rows).to_csv(partial, index=False)


def _train_cell(stream: Stream, cell: Cell, place: Path, chosen: dict[int | None, float]) -> None:
    began = time.monotonic()
    study, task, device = stream.study, stream.task, stream.device
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    runs = [
        Run(seed, chosen[layer], layer)
        for layer in _layers(stream, cell.interface)
        for seed in study.seeds
    ]
    make = _maker(stream, cell.interface)
    scores, history, profiles, rows = [], [], [], []
    weights: dict[str, torch.Tensor] = {}
    label = f"train {cell.task} {cell.upstream} {cell.interface}"
    kept = _checkpoints(stream, "train", cell.interface, chosen, stream.training.steps)
    for number, part in enumerate(_parts(stream, runs)):
        group = _runs(stream, part, make, stream.training)
        with kept.keeper(number, part) as keeper:
            trained = train(
                group, task, stream.features, stream.rows, stream.training, label, keeper
            )
        if np.isnan(trained.dev).any():
            lost = part[int(np.isnan(trained.dev).argmax())]
            raise StudyError(
                f"{label}: the loss of seed {lost.seed} is not finite at learning rate "
                f"{lost.learning_rate:g}; give the sweep smaller learning rates"
            )
        tests = evaluate(
            group, task, stream.features, stream.rows, "test", stream.training.scored_seconds
        ).tables
        rows += _result_rows(stream, cell, group, trained, tests)
        for one, score in zip(part, tests, strict=True):
            scores.append(score.assign(layer=one.layer, seed=one.seed))
        history += trained.history
        profiles.append(layer_profiles(group, stream.features, _profile_rows(stream)))
        weights.update({f"{number}.{k}": v.contiguous() for k, v in group.stored().items()})
    enlarged = _enlarged(stream, group.skeleton.interface)
    seconds = time.monotonic() - began + kept.earlier
    for row in rows:
        row["seconds"] = round(seconds / len(rows), 3)

    frame = pd.concat(scores)
    frame["layer"] = frame["layer"].astype("Int64")
    with whole_folder(place) as partial:
        frame.to_parquet(partial / "scores.parquet", index=False)
        pd.DataFrame(history).astype({"layer": "Int64"}).to_csv(
            partial / "history.csv", index=False
        )
        pd.concat(profiles).to_csv(partial / "layer_profile.csv", index=False)
        save_file(weights, partial / "weights.safetensors")
        (partial / "metrics.json").write_text(
            json.dumps(
                {
                    "stamp": _stamp(study, cell, chosen),
                    "config": json.loads(study.slice(*cell)),
                    "versions": _versions(),
                    **({"enlarged": enlarged._asdict()} if enlarged else {}),
                    "runs": rows,
                },
                indent=1,
                default=str,
            )
        )
    say(f"{label}: {len(rows)} runs in {seconds:.0f} s")


def _result_rows(
    stream: Stream, cell: Cell, group: Runs, trained: Trained, tests: list[pd.DataFrame]
) -> list[dict[str, Any]]:
    task, device, study = stream.task, stream.device, stream.study
    peak = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else _resident()
    interface, head = group.skeleton.interface, group.skeleton.head
    size = sum(p.numel() for p in interface.parameters())
    return [
        {
            "study": study.name,
            "task": cell.task,
            "upstream": cell.upstream,
            "interface": cell.interface,
            "layer": one.layer,
            "seed": one.seed,
            "learning_rate": one.learning_rate,
            "metric": task.metric,
            "higher_is_better": task.higher_is_better,
            "dev": float(trained.dev[r]),
            "test": task.value(tests[r]),
            "n_dev": len(task.ids("dev")),
            "n_test": len(tests[r]),
            "interface_parameters": size,
            "head_parameters": sum(p.numel() for p in head.parameters()),
            "macs_per_frame": interface.macs_per_frame(),
            "steps": stream.training.steps,
            "best_step": int(trained.best_step[r]),
            "seconds": 0.0,
            "peak_memory_mb": round(peak / 2**20),
            "device": _device_name(device),
            "git_commit": commit(),
            "version": ssl_bench.__version__,
            "fingerprint": study.fingerprint(cell),
        }
        for r, one in enumerate(group.runs)
    ]


def _open(study: Study, task: str, upstream: str, device: torch.device) -> Stream:
    config = study.task_config(task)
    table = pd.read_parquet(study.corpus_dir(config.corpus) / "table.parquet")
    made = make_task(study, task, table)
    rows = {name: row for row, name in enumerate(table["id"])}
    opened = open_features if study.fine_tune_of(upstream) is None else open_waveforms
    features = opened(study, upstream, config.corpus, device)
    return Stream(study, task, upstream, made, features, rows, study.training_of(task), device)


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
        for batch in evaluation_batches(own, features.frames[own], width):
            fitted.fit_batch(*features.batch(batch.rows, batch.width))
        fitted.fit_finish()

    enlarged = _enlarged(stream, first)
    if enlarged is not None:
        say(f"{stream.task_name} {stream.upstream} {interface}: {enlarged}")

    def make() -> Joined:
        if first.needs_fit:
            joined = copy.deepcopy(first)
        else:
            joined = SSL_Interface.create(kind, num_layers=layers, dim=features.dim, **options)
        return Joined(joined, enlarging.head(stream.task, first.output_dim, enlarged))

    return make


def _enlarged(stream: Stream, interface: Any) -> enlarging.Enlarged | None:
    """Return how large the head behind an interface is made, where the task asks for it."""
    study, name, features = stream.study, stream.task_name, stream.features
    size = (features.layers, features.dim)
    return enlarging.find(study, name, stream.task, *size, interface.output_dim)


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
    }
    if isinstance(stream.features, Waveforms):
        return TunedRuns(part, make, stream.features, **options)
    return Runs(part, make, stream.device, stackable=stream.task.stackable, **options)


def _checkpoints(
    stream: Stream, stage: str, interface: str, chosen: dict[int | None, float], steps: int
) -> Checkpoints:
    cell = Cell(stream.task_name, stream.upstream, interface)
    return Checkpoints(
        stream.study.checkpoint_dir(stage, cell),
        f"{stage} {cell.task} {cell.upstream} {cell.interface}",
        stream.device,
        steps,
        stage=stage,
        cell=_stamp(stream.study, cell, chosen),
    )


def _layers(stream: Stream, interface: str) -> list[int | None]:
    if stream.study.interface_options(interface)[1].get("layer") == "each":
        return list(range(stream.features.layers))
    return [None]


def _parts(stream: Stream, runs: list[Run]) -> list[list[Run]]:
    most = 1 if isinstance(stream.features, Waveforms) else STACKED
    return [runs[start : start + most] for start in range(0, len(runs), most)]


def _profile_rows(stream: Stream) -> np.ndarray:
    return np.array([stream.rows[name] for name in stream.task.ids("dev")[:32]])


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


def _stamp(study: Study, cell: Cell, chosen: dict[int | None, float]) -> str:
    """Name all that determines a cell: its slice of the study, its data, its learning rates."""
    rates = sorted((str(layer), rate) for layer, rate in chosen.items())
    return f"{study.fingerprint(cell)} {digest(study, cell)} {rates}"


def digest(study: Study, cell: Cell) -> str:
    """Return the digest of a cell's labels, recordings and encoder that the features stage left."""
    folder = study.features_dir(cell.upstream, study.tasks[cell.task]["corpus"])
    return str(json.loads((folder / "features.json").read_text())["digest"])


def _finished(place: Path, stamp: str) -> bool:
    path = place / "metrics.json"
    return path.is_file() and json.loads(path.read_text())["stamp"] == stamp


def _versions() -> dict[str, str]:
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "ssl_bench": ssl_bench.__version__,
    }


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"


def _resident() -> int:
    """Peak resident memory of this process in bytes."""
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
