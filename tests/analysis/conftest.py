"""Fake tables of a study, from a seeded generator, with effects that the tests know."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import pytest

from analysis.resampling import equal_error_rate
from analysis.tables import Tables, checked

TASKS = {
    "pr": ("per", 0.37),
    "pr_relu": ("per", 0.28),
    "asr": ("wer", 0.33),
    "ks": ("accuracy", 0.65),
    "er": ("accuracy", 0.62),
    "sv": ("eer", 1.9),
}
GAINS = {
    "weighted_sum": 0.0,
    "grouped_2": 0.05,
    "grouped_3": 0.08,
    "grouped_4": 0.09,
    "concat": 0.13,
    "pca_concat": -0.22,
    "hconv": 0.25,
    "cls_pooling": 0.18,
    "weighted_sum_mlp": 0.245,
    "mean": -0.02,
    "last": 0.01,
}
PARAMETERS = {
    "weighted_sum": 13,
    "grouped_2": 74_000,
    "grouped_3": 110_000,
    "grouped_4": 148_000,
    "concat": 479_000,
    "hconv": 277_000,
    "cls_pooling": 299_000,
    "weighted_sum_mlp": 296_000,
}
UPSTREAMS = {"fbank": 1, "untrained": 13, "embedded_13": 13, "embedded_25": 25}


def utterances(
    rng: np.random.Generator, metric: str, level: float, gain: float, material: dict
) -> pd.DataFrame:
    """Make one run's scores: ``gain`` is the share of errors that the interface removes."""
    speaker, wobble = material["speaker"], 0.01 * rng.standard_normal()
    frame = pd.DataFrame({"id": material["id"], "speaker": material["name"]})
    if metric == "eer":
        shift = level + 2 * (gain + wobble)
        frame["label"] = material["label"]
        frame["score"] = (
            frame["label"] * shift + material["noise"] + 0.1 * rng.standard_normal(len(frame))
        )
        return frame
    rate = (1 - level if metric == "accuracy" else level) * (1 - gain) + wobble
    rate = np.clip(rate * material["hard"][speaker], 0.01, 0.98)
    if metric == "accuracy":
        frame["correct"] = (material["luck"] >= rate).astype(int)
        flip = rng.random(len(frame)) < 0.03
        frame.loc[flip, "correct"] = 1 - frame.loc[flip, "correct"]
    else:
        frame["reference_length"] = material["length"]
        frame["errors"] = rng.binomial(material["length"], rate)
    return frame


def material(rng: np.random.Generator, metric: str, size: int, speakers: int) -> dict:
    """Make what all cells of a task share: ids, speakers and how hard each is."""
    names = np.array([f"s{k:02d}" for k in range(speakers)])
    if metric == "eer":
        first, second = rng.integers(speakers, size=(2, 3 * size))
        same = rng.random(3 * size) < 0.4
        second = np.where(same, first, second)
        quality = 0.5 * rng.standard_normal(speakers)
        return {
            "id": [
                f"{names[a]}-{k}|{names[b]}-{k}"
                for k, (a, b) in enumerate(zip(first, second, strict=True))
            ],
            "name": [f"{names[a]}|{names[b]}" for a, b in zip(first, second, strict=True)],
            "speaker": first,
            "label": (first == second).astype(int),
            "noise": rng.standard_normal(3 * size) + quality[first],
        }
    speaker = np.arange(size) % speakers
    return {
        "id": [f"u{k:04d}" for k in range(size)],
        "name": names[speaker],
        "speaker": speaker,
        "hard": np.exp(0.25 * rng.standard_normal(speakers)),
        "length": rng.integers(15, 50, size),
        "luck": rng.random(size),
    }


def metric_of(scores: pd.DataFrame, metric: str) -> float:
    """Score one run as its task would."""
    if metric == "eer":
        ones = np.ones((1, len(scores)), dtype=np.float32)
        values = scores["score"].to_numpy(), scores["label"].to_numpy()
        return float(equal_error_rate(*values, ones)[0])
    if metric == "accuracy":
        return float(100 * scores["correct"].mean())
    return float(100 * scores["errors"].sum() / scores["reference_length"].sum())


def fake_frames(
    tasks: Sequence[str] = ("pr", "ks", "er", "sv"),
    upstreams: Sequence[str] = ("embedded_13",),
    interfaces: Sequence[str] = tuple(k for k in GAINS if k not in ("mean", "last")),
    seeds: int = 2,
    size: int = 120,
    speakers: int = 20,
    probes: bool = False,
    extras: bool = False,
    seed: int = 0,
) -> dict[str, pd.DataFrame | None]:
    """Make the tables; ``probes`` adds single layers, ``extras`` the sweep and the similarity."""
    rng = np.random.default_rng(seed)
    results, costs, scores, sweep, profile, history = [], [], [], [], [], []
    for task in tasks:
        metric, level = TASKS[task]
        shared = material(rng, metric, size, speakers)
        for upstream in upstreams:
            layers = UPSTREAMS[upstream]
            runs = [(name, None) for name in interfaces]
            if layers == 1:
                runs = [("weighted_sum", None)]
            if probes and layers > 1:
                runs += [("single_layer", layer) for layer in range(layers)]
            for interface, layer in runs:
                cell = {"task": task, "upstream": upstream, "interface": interface, "layer": layer}
                depth = 0 if layer is None else layer / (layers - 1)
                gain = GAINS.get(interface, 0.02 - 0.5 * (depth - 0.7) ** 2)
                gain -= {"fbank": 0.8, "untrained": 0.7}.get(upstream, 0.0)
                if upstream == "embedded_25" and interface == "pca_concat":
                    gain = -1.4
                higher = metric == "accuracy"
                for run in range(seeds):
                    made = utterances(rng, metric, level, gain, shared)
                    value = metric_of(made, metric)
                    results.append(
                        {
                            "study": "fake",
                            **cell,
                            "seed": run,
                            "learning_rate": 2e-3,
                            "metric": metric,
                            "higher_is_better": higher,
                            "dev": value + rng.normal(),
                            "test": value,
                            "n_dev": size,
                            "n_test": len(made),
                            "interface_parameters": PARAMETERS.get(interface, 0),
                            "head_parameters": 50_000,
                            "macs_per_frame": 10 * PARAMETERS.get(interface, 1),
                            "steps": 500,
                            "best_step": 400,
                            "device": "cpu",
                            "git_commit": "0" * 40,
                            "version": "0.1.0",
                            "fingerprint": "f" * 16,
                        }
                    )
                    costs.append({**cell, "seed": run, "seconds": 1.5, "peak_memory_mb": 300})
                    scores.append(made.assign(**cell, seed=run))
                    for step in range(100, 501, 100):
                        slope = 1 + 2 * np.exp(-step / 120)
                        dev = 100 - (100 - value) * slope if higher else value * slope
                        history.append(
                            {**cell, "seed": run, "step": step, "train_loss": slope, "dev": dev}
                        )
                    if layer is None and layers > 1 and interface not in ("mean", "last"):
                        peak = 0.7 if metric in ("per", "wer") else 0.3
                        share = np.exp(-20 * (np.linspace(0, 1, layers) - peak) ** 2)
                        share = share * np.exp(0.2 * rng.standard_normal(layers))
                        kind = {"weighted_sum": "weight×norm", "cls_pooling": "attention"}
                        for k, part in enumerate(share / share.sum()):
                            profile.append(
                                {
                                    **{c: cell[c] for c in ("task", "upstream", "interface")},
                                    "seed": run,
                                    "layer": k,
                                    "weight": part if interface == "weighted_sum" else None,
                                    "norm": 1.0 + k,
                                    "share": part,
                                    "kind": kind.get(interface, "gradient×input"),
                                }
                            )
                for rate in (5e-4, 2e-3, 8e-3):
                    worse = 8 * abs(np.log(rate / 2e-3)) * rng.random()
                    dev = value - worse if higher else value + worse
                    sweep.append(
                        {
                            **cell,
                            "learning_rate": rate,
                            "seed": 0,
                            "dev": dev,
                            "chosen": rate == 2e-3,
                        }
                    )
    frames: dict[str, pd.DataFrame | None] = {
        "results": pd.DataFrame(results),
        "scores": pd.concat(scores, ignore_index=True),
        "layer_profile": pd.DataFrame(profile),
        "history": pd.DataFrame(history),
        "costs": pd.DataFrame(costs),
    }
    if extras:
        frames |= {"sweep": pd.DataFrame(sweep), "similarity": similarity(upstreams)}
    return frames


def similarity(upstreams: Sequence[str]) -> pd.DataFrame:
    """Make layer similarities that fall with the distance of the layers."""
    rows = []
    for upstream in upstreams:
        layers = UPSTREAMS[upstream]
        if layers == 1:
            continue
        for measure, width in (("cka", 8), ("pca_cosine", 2)):
            for a in range(layers):
                for b in range(layers):
                    value = np.exp(-abs(a - b) / width)
                    rows.append((upstream, "phones", measure, a, b, value))
    return pd.DataFrame(
        rows, columns=["upstream", "corpus", "measure", "layer_a", "layer_b", "value"]
    )


def write_frames(frames: dict[str, pd.DataFrame | None], folder) -> None:
    """Write tables as the collect stage does."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, frame in frames.items():
        if name == "scores":
            frame.to_parquet(folder / "scores.parquet")
        elif frame is not None:
            frame.to_csv(folder / f"{name}.csv", index=False)


FULL = {
    "tasks": tuple(TASKS),
    "upstreams": tuple(UPSTREAMS),
    "interfaces": tuple(GAINS),
    "seeds": 2,
    "size": 80,
    "probes": True,
    "extras": True,
}


@pytest.fixture(scope="session")
def small_frames() -> dict[str, pd.DataFrame | None]:
    """One upstream, four tasks, nine interfaces, two seeds; no probes, no sweep."""
    return fake_frames()


@pytest.fixture(scope="session")
def small(small_frames) -> Tables:
    return checked(small_frames)


@pytest.fixture(scope="session")
def full() -> Tables:
    """Every table: four upstreams, six tasks, all interfaces, probes, sweep, similarity."""
    return checked(fake_frames(**FULL))


@pytest.fixture(scope="session")
def small_folder(small_frames, tmp_path_factory):
    folder = tmp_path_factory.mktemp("study") / "tables"
    write_frames(small_frames, folder)
    return folder


@pytest.fixture(scope="session")
def fake():
    """``fake_frames``, for studies of other shapes."""
    return fake_frames


@pytest.fixture(scope="session")
def write():
    """``write_frames``."""
    return write_frames
