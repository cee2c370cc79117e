"""Steps that were not measured, estimated from those that were on the same hardware.

A step of one run of task t and interface i costs about what the same interface costs on phone
recognition, the one task that nearly every interface was timed on, times how much dearer the task
is than that:

    step(t, i) ≈ step(pr, i) · Σ_k step(t, k) / Σ_k step(pr, k)

over the interfaces k that were timed on both, with states of the same L × D and the same audio a
step. The plain weighted sum must be one of them. Several runs cost as many steps of one. A task or
an interface without lines of its own has those of the nearest: the same head, or the same products.
``benchmarks/estimates.py`` leaves each measurement out in turn and says how well the others
foretell it; docs/paper.md has the result.
"""

from collections.abc import Iterable

REFERENCE = "pr"
PLAIN = "weighted_sum"
"""The cheapest: without it, a task whose head is small is taken for a dear one."""
NEAREST_TASK = {"multi_asr": "mono_asr", "multi_lid": "mono_asr"}
"""Of the same head, ML-SUPERB's Transformer with CTC."""
NEAREST_INTERFACE = {"pca_concat": "concat"}
"""Joins the same layers by fewer products, so its steps are not undercounted."""

Steps = dict[tuple[str, str], float]
"""Milliseconds of one run's step, by kinds of task and interface."""


def lines(measured: Iterable[dict[str, str]], task: str, interface: str) -> list[dict[str, str]]:
    """Estimate the lines that the table of measurements lacks for one task and interface.

    Args:
        measured: lines of ``step`` of one kind of hardware and one L × D.
        task: its kind.
        interface: its kind.

    Returns:
        For every audio a step that has enough of them one line, of one run.
    """
    return [
        {"runs": "1", "batch_seconds": audio, "value": repr(value)}
        for audio, steps in of_one_run(measured).items()
        if (value := nearest(steps, task, interface)) is not None
    ]


def of_one_run(measured: Iterable[dict[str, str]]) -> dict[str, Steps]:
    """Return the steps of one run for every audio a step that was measured."""
    tables: dict[str, Steps] = {}
    for line in measured:
        if line["runs"] == "1":
            steps = tables.setdefault(line["batch_seconds"], {})
            steps[line["task"], line["interface"]] = float(line["value"])
    return tables


def nearest(steps: Steps, task: str, interface: str) -> float | None:
    """Return a step's milliseconds, of the nearest kinds where its own tell nothing."""
    for kind in (task, NEAREST_TASK.get(task)):
        for joined in (interface, NEAREST_INTERFACE.get(interface)):
            if kind and joined and (value := step(steps, kind, joined)) is not None:
                return value
    return None


def step(steps: Steps, task: str, interface: str) -> float | None:
    """Return a step's milliseconds as measured, else by the model; None where neither can be."""
    if (task, interface) in steps:
        return steps[task, interface]
    return by_ratio(steps, task, interface) if (task, PLAIN) in steps else None


def by_ratio(steps: Steps, task: str, interface: str) -> float | None:
    """Return the model's milliseconds from the task's other interfaces, whether measured or not."""
    others = [k for t, k in steps if t == task and k != interface and (REFERENCE, k) in steps]
    if not others or (REFERENCE, interface) not in steps:
        return None
    dearer = sum(steps[task, k] for k in others) / sum(steps[REFERENCE, k] for k in others)
    return steps[REFERENCE, interface] * dearer
