"""How well the plan's estimates of steps foretell those that were measured.

    python benchmarks/estimates.py

Leaves every step of ``workflow/ssl_bench/planning/throughput.csv`` out in turn, estimates it from
the others (``planning/estimate.py``) and prints the ratio of the estimate to the measurement: of
one run, and of three and seven, each measured as cheaply as the plan counts it, alone or stacked.
The weighted sum, which no estimate does without, is left out too, to show why; tasks with the same
head lend each other their steps; and kinds that were timed take those of the kind that is called
nearest to them. No GPU is used.
"""

from collections.abc import Iterator
from itertools import groupby, permutations
from statistics import median
from typing import NamedTuple

from ssl_bench.planning.estimate import (
    NEAREST_INTERFACE,
    NEAREST_TASK,
    PLAIN,
    REFERENCE,
    by_ratio,
    of_one_run,
)
from ssl_bench.planning.known import rows
from ssl_bench.planning.throughput import milliseconds

RUNS = (1, 3, 7)
SAME_HEAD = ("er", "ic")


class Ratio(NamedTuple):
    """An estimate over a measurement, for each of ``RUNS``."""

    hardware: str
    size: str
    task: str
    interface: str
    values: list[float]


def by_size() -> Iterator[tuple[str, str, str, list[dict[str, str]]]]:
    """Yield hardware, L × D, audio a step and the steps measured with them."""
    found = [row for row in rows("throughput") if row["stage"] == "step"]

    def group(row: dict[str, str]) -> tuple[str, str, str]:
        return row["hardware"], f"{row['layers']} × {row['dim']}", row["batch_seconds"]

    for (hardware, size, audio), lines in groupby(sorted(found, key=group), group):
        yield hardware, size, audio, list(lines)


def left_out() -> list[Ratio]:
    """Estimate every step of a task but the reference as if it were not measured."""
    made = []
    for hardware, size, audio, lines in by_size():
        steps = of_one_run(lines)[audio]
        for task, interface in steps:
            value = by_ratio(steps, task, interface)
            if task == REFERENCE or value is None:
                continue
            own = [row for row in lines if (row["task"], row["interface"]) == (task, interface)]
            seconds = float(audio)
            ratios = [runs * value / milliseconds(own, runs, seconds) for runs in RUNS]
            made.append(Ratio(hardware, size, task, interface, ratios))
    return made


def lent() -> list[Ratio]:
    """Take the steps of the other task of the same head in place of a task's own."""
    made = []
    for hardware, size, audio, lines in by_size():
        steps = of_one_run(lines)[audio]
        for task, other in permutations(SAME_HEAD):
            for interface in [k for t, k in steps if t == task and (other, k) in steps]:
                ratio = steps[other, interface] / steps[task, interface]
                made.append(Ratio(hardware, size, task, interface, [ratio]))
    return made


def nearest() -> list[Ratio]:
    """Take the steps of the nearest kind of task or interface in place of a step's own."""
    made = []
    for hardware, size, audio, lines in by_size():
        steps = of_one_run(lines)[audio]
        for task, interface in steps:
            near = (NEAREST_TASK.get(task), interface), (task, NEAREST_INTERFACE.get(interface))
            for lender in near:
                if lender in steps:
                    ratio = steps[lender] / steps[task, interface]
                    made.append(Ratio(hardware, size, task, interface, [ratio]))
    return made


def summary(made: list[Ratio]) -> tuple[int, float, float, float]:
    """Return how many steps, and over them and ``RUNS`` the median, least and largest ratio."""
    values = [value for ratio in made for value in ratio.values]
    return len(made), median(values), min(values), max(values)


def show(title: str, made: list[Ratio]) -> None:
    """Print ratios, and their summary."""
    print(title)
    for one in made:
        values = "".join(f"{value:8.2f}" for value in one.values)
        print(f"  {one.hardware}  {one.size:10}  {one.task:10}{one.interface:21}{values}")
    print("  {} steps: median {:.2f}, {:.2f} to {:.2f}".format(*summary(made)))


if __name__ == "__main__":
    every = left_out()
    runs = ", ".join(map(str, RUNS))
    show(f"estimated / measured, {runs} runs", [r for r in every if r.interface != PLAIN])
    show(f"the same of {PLAIN}, never done", [r for r in every if r.interface == PLAIN])
    show(f"steps lent between {' and '.join(SAME_HEAD)}, 1 run", lent())
    show("steps of the nearest kind, 1 run", nearest())
