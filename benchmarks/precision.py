"""What bf16 costs: errors of the states, and the test metric of heads trained on either precision.

    python benchmarks/precision.py --out precision
    python benchmarks/precision.py --encoders hubert-mini-13 base --tasks pr sid --seeds 10

The default study (``config/mini.yaml``) on generated speech, twice: in fp32 throughout (encoder
without TF32, states, training), and as a study does it by default (encoder and states in bf16,
training under bf16 autocast; a CPU computes in fp32 and keeps states in bf16). Both from the same
seeds, so with the same initial weights and batches. Encoders: the embedded ones, and random weights
in the shapes of HuBERT Base and Large.

A state's relative error is the length of its difference over the length of the fp32 state, both
layer-normed. The difference of the metrics is paired by seed, bf16 less fp32, with the 95 %
interval of Student's t over seeds. ``--out`` writes ``precision.csv`` and ``precision.md``.
"""

import argparse
import contextlib
import tempfile
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import random_hubert
import torch
import yaml
from measured import hardware
from scipy import stats
from training import finish, maker

from ssl_bench import corpus, features
from ssl_bench.corpus import Corpus, make_task
from ssl_bench.evaluation import evaluate
from ssl_bench.features import Features
from ssl_bench.runs import Run, Runs
from ssl_bench.sampling import evaluation_batches
from ssl_bench.study import Study, parse
from ssl_bench.training import train

ROOT = Path(__file__).resolve().parents[1]
EMBEDDED = ("hubert-mini-13", "hubert-mini-25")
RANDOM = {**random_hubert.SHAPES, "tiny": random_hubert.TINY}
PRECISIONS = ("fp32", "bf16")
RATES = {"weighted_sum": 1e-2, "hconv": 1e-3}
"""Learning rates, the same for all encoders and tasks."""
COMPARED_SECONDS = 40.0
"""Of audio that states are compared in at once."""


def studies(
    encoders: dict[str, Path], tasks: list[str], arguments: argparse.Namespace
) -> dict[str, Study]:
    """Return the default study in each precision, on these encoders and tasks."""
    raw: dict[str, Any] = yaml.safe_load((ROOT / "config" / "mini.yaml").read_text("utf-8"))
    sizes = dict(zip(("train", "dev", "test"), arguments.utterances, strict=True))
    used = {name: raw["tasks"][name] for name in tasks}
    for entry in used.values():
        entry.pop("training", None)
    del raw["learning_rates"]
    corpora = {entry["corpus"] for entry in used.values()}
    asked = {"steps": arguments.steps, "batch_seconds": arguments.batch_seconds}
    raw |= {
        "name": "precision",
        "seeds": arguments.seeds,
        "device": arguments.device,
        "cache": "memory",
        "corpora": {name: {**raw["corpora"][name], **sizes} for name in sorted(corpora)},
        "upstreams": {
            name: {"kind": "transformers", "model": str(path)} for name, path in encoders.items()
        },
        "tasks": used,
        "interfaces": list(arguments.interfaces),
        "similarity": {},
        "sweep": {"learning_rates": sorted(RATES.values())},
    }
    return {
        precision: parse(
            {
                **raw,
                "state_dtype": precision,
                "training": {**raw["training"], **asked, "precision": precision},
            }
        )
        for precision in PRECISIONS
    }


def folders(names: list[str], place: Path) -> dict[str, Path]:
    """Return each encoder's folder; those of random weights are written."""
    return {
        name: ROOT / "models" / name
        if name in EMBEDDED
        else random_hubert.write("hf_hubert_custom", RANDOM[name], place / name)
        for name in names
    }


@contextlib.contextmanager
def without_tf32() -> Iterator[None]:
    """Multiply and convolve in fp32 as such."""
    convolutions, products = torch.backends.cudnn.allow_tf32, torch.get_float32_matmul_precision()
    torch.backends.cudnn.allow_tf32 = False
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = convolutions
        torch.set_float32_matmul_precision(products)


def errors(exact: Features, stored: Features) -> tuple[float, float]:
    """Return the largest and the mean relative error of all states of a corpus."""
    most, total, count = 0.0, 0.0, 0
    rows = np.arange(len(exact.frames))
    width = int(COMPARED_SECONDS / exact.seconds_per_frame)
    for batch in evaluation_batches(rows, exact.frames, width):
        ours, lengths = stored.batch(batch.rows, batch.width)
        theirs, _ = exact.batch(batch.rows, batch.width)
        own = torch.arange(batch.width, device=lengths.device) < lengths[:, None]
        apart = (ours.float() - theirs).norm(dim=-1) / theirs.norm(dim=-1)  # (L, B, T)
        apart = apart[:, own]
        most = max(most, float(apart.max()))
        total += float(apart.double().sum())
        count += apart.numel()
    return most, total / count


def trained(
    study: Study, task_name: str, states: Features, interface: str
) -> tuple[np.ndarray, float]:
    """Train every seed; return the test metric of each, NaN where it was lost, and seconds."""
    table = Corpus(study.corpus_dir(study.tasks[task_name]["corpus"])).table
    task, training = make_task(study, task_name, table), study.training_of(task_name)
    rows = {name: row for row, name in enumerate(table["id"])}
    runs = Runs(
        [Run(seed, RATES.get(interface, 1e-3)) for seed in study.seeds],
        maker(interface, task, states),
        states.device,
        stackable=task.stackable,
        clip=training.clip,
        layer_weight_scale=training.layer_weight_scale,
        autocast=training.precision == "bf16",
    )
    finish(states.device)
    began = time.perf_counter()
    (found,) = train([runs], task, states, rows, training, f"{task_name} {interface}")
    finish(states.device)
    seconds = time.perf_counter() - began
    (scored,) = evaluate([runs], task, states, rows, "test", training.scored_seconds)
    values = np.array([task.value(table) for table in scored.tables])
    return np.where(np.isnan(found.dev), np.nan, values), seconds


def paired(fp32: np.ndarray, bf16: np.ndarray) -> tuple[float, float, float]:
    """Return the mean difference over seeds and its 95 % interval, NaN with fewer than two."""
    apart = bf16 - fp32
    if len(apart) < 2:
        return float(apart.mean()), np.nan, np.nan
    half = stats.t.ppf(0.975, len(apart) - 1) * apart.std(ddof=1) / np.sqrt(len(apart))
    return float(apart.mean()), float(apart.mean() - half), float(apart.mean() + half)


def compare(
    made: dict[str, Study], encoder: str, task: str, device: torch.device
) -> Iterator[dict[str, Any]]:
    """Yield a row for each interface of one encoder and task."""
    states, encoding = {}, {}
    for precision, study in made.items():
        with without_tf32() if precision == "fp32" else contextlib.nullcontext():
            name = study.tasks[task]["corpus"]
            features.compute(study, encoder, name, device)
            began = time.perf_counter()
            states[precision] = features.open_features(study, encoder, name, device)
            finish(device)
            encoding[precision] = time.perf_counter() - began
    most, mean = errors(states["fp32"], states["bf16"])
    for interface in made["fp32"].interfaces:
        values, seconds = {}, {}
        for precision, study in made.items():
            with without_tf32() if precision == "fp32" else contextlib.nullcontext():
                values[precision], seconds[precision] = trained(
                    study, task, states[precision], interface
                )
            if device.type == "cuda":
                torch.cuda.empty_cache()
        difference, low, high = paired(values["fp32"], values["bf16"])
        yield {
            "encoder": encoder,
            "layers": states["fp32"].layers,
            "dim": states["fp32"].dim,
            "task": task,
            "interface": interface,
            "seeds": len(made["fp32"].seeds),
            "largest_error": most,
            "mean_error": mean,
            **{precision: float(values[precision].mean()) for precision in made},
            "difference": difference,
            "low": low,
            "high": high,
            **{f"encoding_{precision}_s": encoding[precision] for precision in made},
            **{f"training_{precision}_s": seconds[precision] for precision in made},
            "device": hardware(device),
        }


def markdown(table: pd.DataFrame) -> str:
    """Return the table as a page shows it."""
    heads = ("encoder", "L × D", "error: largest", "mean", "task", "interface", "fp32", "bf16")
    heads += ("difference (95 %)", "seconds: fp32", "bf16")
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    for row in table.to_dict("records"):
        cells = [
            row["encoder"],
            f"{row['layers']} × {row['dim']}",
            f"{row['largest_error']:.4f}",
            f"{row['mean_error']:.4f}",
            row["task"],
            row["interface"],
            f"{row['fp32']:.2f}",
            f"{row['bf16']:.2f}",
            f"{row['difference']:+.2f} ({row['low']:+.2f} to {row['high']:+.2f})",
            f"{row['training_fp32_s']:.1f}",
            f"{row['training_bf16_s']:.1f}",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Print the table, and write it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    names = [*EMBEDDED, *RANDOM]
    standard = [name for name in names if name != "tiny"]
    parser.add_argument("--encoders", nargs="+", choices=names, default=standard)
    parser.add_argument(
        "--tasks", nargs="+", choices=["pr", "ks", "er", "sid"], default=["pr", "ks"]
    )
    parser.add_argument("--interfaces", nargs="+", default=list(RATES))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--batch-seconds", type=float, default=16.0)
    parser.add_argument(
        "--utterances", type=int, nargs=3, default=[700, 150, 300], help="of train, dev and test"
    )
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--out", type=Path, help="folder for precision.csv and precision.md")
    arguments = parser.parse_args()
    if find_spec("espeakng_loader") is None:
        raise SystemExit("precision.py: generated speech needs the package espeakng-loader")
    device = torch.device(arguments.device)
    out = arguments.out and arguments.out.resolve()
    print(f"{hardware(device)}, torch {torch.__version__}, {arguments.seeds} seeds")
    rows = []
    with tempfile.TemporaryDirectory() as place, contextlib.chdir(place):
        made = studies(folders(arguments.encoders, Path(place)), arguments.tasks, arguments)
        for name in made["fp32"].corpora:
            corpus.prepare(made["fp32"], name)
        for encoder in arguments.encoders:
            for task in arguments.tasks:
                for row in compare(made, encoder, task, device):
                    rows.append(row)
                    print(markdown(pd.DataFrame([row])).splitlines()[-1], flush=True)
    table = pd.DataFrame(rows)
    print(f"\n{markdown(table)}")
    if out:
        out.mkdir(parents=True, exist_ok=True)
        table.to_csv(out / "precision.csv", index=False)
        (out / "precision.md").write_text(markdown(table), encoding="utf-8")


if __name__ == "__main__":
    main()
