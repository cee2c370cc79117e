"""A plan in print: tables on a terminal, plain lines elsewhere."""

import sys
from itertools import groupby
from typing import NamedTuple

from rich.console import Console
from rich.table import Table
from tabulate import tabulate

from ssl_bench.planning import checkpoints
from ssl_bench.planning.known import Hours, Size
from ssl_bench.planning.throughput import (
    Estimate,
    encoded_hours,
    estimates,
    frozen_and_uncounted,
    tuned_and_unmeasured,
)
from ssl_bench.planning.work import Plan, StreamPlan


class Section(NamedTuple):
    """A table with its title; notes stand below it."""

    title: str
    heads: list[str]
    rows: list[list[str]]
    notes: list[str]


def show(plan: Plan) -> None:
    """Print a plan."""
    for section in sections(plan):
        if sys.stdout.isatty():
            table = Table(*section.heads, title=section.title, title_justify="left")
            for row in section.rows:
                table.add_row(*row)
            Console().print(table)
        else:
            print(f"{section.title}:")
            body = tabulate(section.rows, section.heads, "plain", disable_numparse=True)
            print("\n".join(f"  {line}" for line in body.splitlines()))
        for note in section.notes:
            print(f"  {note}")
        print()


def sections(plan: Plan) -> list[Section]:
    """Return the tables of a plan."""
    return [_corpora(plan), _jobs(plan), _grid(plan), _states(plan), _disk(plan), _hours(plan)]


def _corpora(plan: Plan) -> Section:
    rows = [
        [corpus.name, corpus.kind, corpus.state, _duration(corpus.hours)]
        for corpus in plan.corpora
    ]  # fmt: skip
    rows = _folded(rows)
    notes = []
    if any("missing" in corpus.state for corpus in plan.corpora):
        notes = ["which files: python -m ssl_bench check --missing"]
    return Section("corpora", ["corpus", "kind", "files", "hours"], rows, notes)


def _folded(rows: list[list[str]], name: int = 0) -> list[list[str]]:
    """Show rows that follow each other and differ in their name alone as one."""
    folded = []
    for _, same in groupby(rows, lambda row: row[:name] + row[name + 1 :]):
        first, *others = same
        if others:
            first[name] += f" … {others[-1][name]} ({1 + len(others)}, each)"
        folded.append(first)
    return folded


def _duration(hours: Hours | None) -> str:
    return "unknown" if hours is None else f"{hours.bound}{hours.total:,.1f} ({hours.source})"


def _jobs(plan: Plan) -> Section:
    rows = [[rule, f"{count:,}"] for rule, count in plan.jobs.items()]
    rows.append(["in all", f"{sum(plan.jobs.values()):,}"])
    return Section("jobs of a fresh run", ["rule", "jobs"], rows, [])


def _grid(plan: Plan) -> Section:
    rows = []
    for task in plan.study.tasks:
        own = [cell for cell in plan.cells if cell.cell.task == task]
        if own:
            train = _runs([cell.train for cell in own])
            sweep = _runs([cell.sweep for cell in own])
            steps = f"{own[0].steps:,}" + (
                f", sweep {own[0].sweep_steps:,}" if own[0].sweep_steps else ""
            )
            rows.append([task, f"{len(own):,}", train, sweep, steps])
    rows = _folded(rows)
    train = _runs([cell.train for cell in plan.cells])
    sweep = _runs([cell.sweep for cell in plan.cells])
    rows.append(["in all", f"{len(plan.cells):,}", train, sweep, ""])
    heads = ["task", "cells", "runs (seeds)", "runs (sweep)", "steps a run"]
    return Section("cells and runs", heads, rows, [])


def _runs(counts: list[int | None]) -> str:
    known = [count for count in counts if count is not None]
    unknown = len(counts) - len(known)
    return f"{sum(known):,}" + (f" + {unknown} cells of unknown layers" if unknown else "")


def _states(plan: Plan) -> Section:
    rows, upstreams = [], list(plan.study.upstreams)
    for stream in sorted(plan.streams, key=lambda stream: upstreams.index(stream.upstream)):
        shape = _shape(stream.size)
        audio = encoded_hours(plan, stream)
        encoded = "unknown" if audio is None else f"{audio:,.1f} h"
        place = _place(stream)
        rows.append([stream.upstream, stream.corpus, shape, _size(stream.bytes), place, encoded])
    heads = ["upstream", "corpus", "L × D", "size", "kept", "to encode"]
    return Section("states", heads, _folded(rows, name=1), [f"cache: {_cache(plan)}"])


def _shape(size: Size | None) -> str:
    return "unknown" if size is None else f"{size.layers} × {size.dim}"


def _place(stream: StreamPlan) -> str:
    if stream.place is None:
        return "unknown"
    if stream.gpu_bytes is None:
        return stream.place
    return f"{stream.place}, or memory of a GPU of {_size(stream.gpu_bytes)} a job"


def _cache(plan: Plan) -> str:
    study = plan.study
    if study.cache != "auto":
        return study.cache
    return f"auto, on disk up to {study.cache_gb:g} GB each"


def _disk(plan: Plan) -> Section:
    packed = [corpus.packed for corpus in plan.corpora]
    rows = [
        ["packed waveforms", *_total(packed)],
        [
            "states on disk",
            _size(sum(stream.on_disk for stream in plan.streams)),
            _unknown([s.bytes for s in plan.streams if s.place in ("disk", None)]),
        ],
    ]
    if any(cell.tuned for cell in plan.cells):
        rows.append(["fine-tuned encoders", *_total([cell.weights for cell in plan.cells])])
    found = checkpoints.largest(plan)
    besides = [f"{found.unknown} cells of unknown size"] if found.unknown else []
    besides += [f"the heads of {found.headless} tasks"] if found.headless else []
    rows.append(["checkpoints of a job, at most", _size(found.bytes), ", ".join(besides)])
    return Section("disk", ["what", "size", "besides"], rows, [])


def _total(sizes: list[float | None]) -> list[str]:
    return [_size(sum(size for size in sizes if size is not None)), _unknown(sizes)]


def _unknown(sizes: list[float | None]) -> str:
    count = sum(size is None for size in sizes)
    return f"{count} of unknown size" if count else ""


def _hours(plan: Plan) -> Section:
    made = estimates(plan)
    rows = [_estimate(plan, one) for one in made]
    notes = ["from workflow/ssl_bench/planning/throughput.csv; docs/paper.md says how"]
    sizes = {stream.upstream: stream.size for stream in plan.streams}
    if not any(one.measured_streams or one.cells for one in made):
        listed = ", ".join(f"{name} ({_shape(size)})" for name, size in sizes.items())
        notes.insert(0, f"nothing was measured that fits {listed}")
    if tuned := tuned_and_unmeasured(plan):
        notes.insert(0, f"fine-tuning, forward and backward, of {tuned} cells: not measured")
    if left := frozen_and_uncounted(plan):
        listed = ", ".join(f"{kind} ({count})" for kind, count in left.items())
        notes.insert(0, f"not counted, cells whose steps were timed nowhere: {listed}")
    if any(one.estimated_cells for one in made):
        notes.insert(0, "≈: by steps estimated from those of other tasks and interfaces")
    heads = ["hardware", "encoding", "of streams", "training", "of cells", "besides", "of cells"]
    return Section("GPU hours", heads, rows, notes)


def _estimate(plan: Plan, one: Estimate) -> list[str]:
    def hours(value: float, count: int, measured: int) -> str:
        if not count:
            return "of unknown audio" if measured else "not measured"
        return f"{value:,.2f} h" if value >= 0.01 else "< 0.01 h"

    return [
        one.hardware,
        hours(one.encoding, one.streams, one.measured_streams),
        f"{one.streams} of {len(plan.streams)}",
        hours(one.training, one.cells, one.cells),
        f"{one.cells} of {len(plan.cells)}",
        f"≈ {one.estimated:,.2f} h" if one.estimated_cells else "",
        f"{one.estimated_cells} of {len(plan.cells)}" if one.estimated_cells else "",
    ]


def _size(size: float | None) -> str:
    if size is None:
        return "unknown"
    if not size:
        return "none"
    return f"{size / 1e9:,.1f} GB" if size >= 1e8 else f"{size / 1e6:,.1f} MB"
