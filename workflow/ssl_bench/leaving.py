"""What a cell leaves: gathered from its trained runs, then written whole or not at all."""

import json
import platform
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from safetensors.torch import save_file

import ssl_bench
from ssl_bench.profiles import layer_profiles
from ssl_bench.progress import say
from ssl_bench.provenance import JOINED, hardware
from ssl_bench.runs import Runs
from ssl_bench.spending import Spent
from ssl_bench.stamps import stamp
from ssl_bench.stream import Stream, enlarged
from ssl_bench.study import Cell
from ssl_bench.training import Trained
from ssl_bench.whole import whole_folder


class Part(NamedTuple):
    """Some runs of an interface that were trained at once, at the weights that were selected."""

    interface: str
    number: int
    group: Runs
    trained: Trained


class Left:
    """What a cell leaves, gathered part by part, then written whole or not at all."""

    def __init__(self, cell: Cell) -> None:
        self.cell = cell
        self._enlarged: Any = None
        self._rows: list[dict] = []
        self._scores: list[pd.DataFrame] = []
        self._history: list[dict] = []
        self._profiles: list[pd.DataFrame] = []
        self._weights: dict[str, torch.Tensor] = {}

    def add(self, stream: Stream, part: Part, tests: list[pd.DataFrame]) -> None:
        """Take what is kept of some trained runs and their scores on test."""
        group = part.group
        self._enlarged = enlarged(stream, group.skeleton.interface)
        self._rows += _result_rows(stream, self.cell, group, part.trained, tests)
        for one, score in zip(group.runs, tests, strict=True):
            self._scores.append(score.assign(layer=one.layer, seed=one.seed))
        self._history += part.trained.history
        self._profiles.append(layer_profiles(group, stream.features, _profile_rows(stream)))
        self._weights |= {f"{part.number}.{k}": v.contiguous() for k, v in group.stored().items()}

    def write(
        self,
        stream: Stream,
        place: Path,
        chosen: dict[int | None, float],
        spent: Spent,
        share: float,
    ) -> None:
        """Write the cell's folder; its runs have a ``share`` of what their stage has spent."""
        study, cell, seconds = stream.study, self.cell, spent.seconds * share
        for row in self._rows:
            row["seconds"] = round(seconds / len(self._rows), 3)
            row["peak_memory_mb"] = round(spent.peak / 2**20)
            row["git_commit"] = JOINED.join(dict.fromkeys(spent.commits))
        frame = pd.concat(self._scores)
        frame["layer"] = frame["layer"].astype("Int64")
        history = pd.DataFrame(self._history).astype({"layer": "Int64"})
        about = {
            "stamp": stamp(study, cell, chosen),
            "config": json.loads(study.slice(*cell)),
            "versions": _versions(),
            "hardware": hardware(),
            "energy_joules": None if spent.joules is None else round(spent.joules * share, 3),
            "starts": len(spent.commits),
            **({"enlarged": self._enlarged._asdict()} if self._enlarged else {}),
            "runs": self._rows,
        }
        with whole_folder(place) as partial:
            frame.to_parquet(partial / "scores.parquet", index=False)
            history.to_csv(partial / "history.csv", index=False)
            pd.concat(self._profiles).to_csv(partial / "layer_profile.csv", index=False)
            save_file(self._weights, partial / "weights.safetensors")
            (partial / "metrics.json").write_text(json.dumps(about, indent=1, default=str))
        label = f"train {cell.task} {cell.upstream} {cell.interface}"
        say(f"{label}: {len(self._rows)} runs in {seconds:.0f} s")


def _result_rows(
    stream: Stream, cell: Cell, group: Runs, trained: Trained, tests: list[pd.DataFrame]
) -> list[dict[str, Any]]:
    task, device, study = stream.task, stream.device, stream.study
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
            "peak_memory_mb": 0,
            "device": _device_name(device),
            "git_commit": "",
            "version": ssl_bench.__version__,
            "fingerprint": study.fingerprint(cell),
        }
        for r, one in enumerate(group.runs)
    ]


def _profile_rows(stream: Stream) -> np.ndarray:
    return np.array([stream.rows[name] for name in stream.task.ids("dev")[:32]])


def _versions() -> dict[str, str]:
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "ssl_bench": ssl_bench.__version__,
    }


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
