"""The paper's seven claims, part by part: what each needs, and how it is tested.

Every part is a number that the claim says is above (or below) a bound; ``paper_verdicts`` says of a
study whether it is.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from analysis import style
from analysis.comparison import ALPHA
from analysis.paper import Place
from analysis.paper_gains import INTERFACES, Gain, Source, difference, gain, mean
from analysis.resampling import Estimate
from analysis.statistics import holm

MARGIN = -5.0
"""Percent of the weighted sum's error: an interface that loses no more is competitive."""
PAIRS = (("hubert_base", "hubert_large"), ("wavlm_base", "wavlm_large"))
"""Encoders of one family, the deeper one second."""
EXCEPTIONS = ("hubert_base", "hubert_large", "wavlm_base", "wavlm_large")


@dataclass(frozen=True)
class Finding:
    """What a source says on a part of a claim."""

    value: float
    low: float
    high: float
    p: float
    agrees: bool
    """Whether the value is on the claimed side."""
    gains: tuple[Gain, ...] = field(repr=False)
    note: str = ""


@dataclass(frozen=True)
class Part:
    """A part of a claim."""

    name: str
    statement: str
    needs: str
    test: str
    find: Callable[[Source], Finding | None]


# ---- the tests


def above(made: Gain | None, bound: float = 0.0) -> Finding | None:
    """Test whether a gain is above a bound."""
    if made is None:
        return None
    tested = made.test(bound)
    return _finding(tested, tested.value > bound, made)


def below(made: Gain | None, bound: float = 0.0) -> Finding | None:
    """Test whether a gain is below a bound."""
    if made is None:
        return None
    tested = made.test(bound)
    return _finding(tested, tested.value < bound, made)


def _finding(tested: Estimate, agrees: bool, made: Gain, note: str = "") -> Finding:
    return Finding(tested.value, tested.low, tested.high, tested.p, agrees, (made,), note)


def over(
    source: Source, tasks: list[str], upstreams: list[str], first: str, second: str
) -> Gain | None:
    """Return the mean gain of one interface over another on those cells that are there."""
    return mean(
        gain(source, Place(task, upstream, first), Place(task, upstream, second))
        for task in tasks
        for upstream in upstreams
    )


def partial_conjunction(p: list[float]) -> float:
    """Return the p value of "an effect in more than half of them" (Benjamini & Heller, 2008)."""
    wanted = len(p) // 2 + 1
    return min(1.0, (len(p) - wanted + 1) * sorted(p)[wanted - 1])


def beaten_on_most_tasks(source: Source) -> Finding | None:
    """Test whether, on more than half of the tasks, some interface beats the weighted sum.

    ``value`` is the share of tasks where one does (significantly, where there are p values).
    """
    better, worse, beaten, used = [], [], [], []
    for task in source.tasks:
        gains = [
            over(source, [task], source.upstreams, other, style.REFERENCE)
            for other in INTERFACES
            if other != style.REFERENCE
        ]
        there = [made for made in gains if made is not None]
        if not there:
            continue
        used += there
        tests = [made.test() for made in there]
        p, wins = holm([t.p for t in tests]), [t.value > 0 for t in tests]
        better.append(min((v for v, won in zip(p, wins, strict=True) if won), default=1.0))
        worse.append(1.0 if any(wins) else max(t.p for t in tests))
        beaten.append(any(wins) if np.isnan(better[-1]) else better[-1] <= ALPHA)
    if not beaten:
        return None
    tests_p = partial_conjunction(better), partial_conjunction(worse)
    share = float(100 * np.mean(beaten))
    printed = any(np.isnan(better))
    agrees = share > 50 if printed else tests_p[0] <= tests_p[1]
    p_value = np.nan if printed else min(tests_p)
    note = f"{sum(beaten)} of {len(beaten)} tasks"
    return Finding(share, np.nan, np.nan, p_value, agrees, tuple(used), note)


def best_of_all(source: Source) -> Finding | None:
    """Test whether HConv's mean gain over every other interface is above zero.

    ``value`` is its gain over the strongest of them. All must be rejected, so the largest p counts.
    """
    rivals = {
        other: over(source, source.tasks, source.upstreams, "hconv", other)
        for other in INTERFACES
        if other != "hconv"
    }
    there = {name: made for name, made in rivals.items() if made is not None}
    if not there:
        return None
    tests = {name: made.test() for name, made in there.items()}
    closest = min(tests, key=lambda name: tests[name].value)
    strongest = tests[closest]
    agrees = strongest.value > 0
    if agrees:
        p = max(tested.p for tested in tests.values())
    else:
        adjusted = dict(zip(tests, holm([t.p for t in tests.values()]), strict=True))
        p = min(adjusted[name] for name, tested in tests.items() if tested.value <= 0)
    note = f"{len(there)} others; the strongest: {style.interface_name(closest)}"
    made = tuple(there.values())
    return Finding(strongest.value, strongest.low, strongest.high, p, agrees, made, note)


def cls_with_data(source: Source, task: str) -> Gain | None:
    """Return CLS pooling's gain over the weighted sum on HuBERT Base."""
    return over(source, [task], ["hubert_base"], "cls_pooling", style.REFERENCE)


def with_depth(source: Source) -> Gain | None:
    """Return how much larger HConv's gain is on the deeper encoder of a family."""

    def on(task: str, upstream: str) -> Gain | None:
        return over(source, [task], [upstream], "hconv", style.REFERENCE)

    return mean(
        difference(on(task, deep), on(task, base)) for base, deep in PAIRS for task in source.tasks
    )


def on_verification(source: Source) -> Gain | None:
    """Return HConv's gain over the weighted sum on SV, HuBERT and WavLM."""
    return over(source, ["sv"], list(EXCEPTIONS), "hconv", style.REFERENCE)


def verification_against_others(source: Source) -> Gain | None:
    """Return how much larger that gain is on SV than on the other tasks."""
    others = [task for task in source.tasks if task != "sv"]
    return difference(
        on_verification(source), over(source, others, list(EXCEPTIONS), "hconv", style.REFERENCE)
    )


def over_large_downstream(source: Source) -> Gain | None:
    """Return HConv's gain over the weighted sum with an enlarged downstream."""
    return mean(
        gain(
            source,
            Place("mono_1h", upstream, "hconv"),
            Place("mono_1h", upstream, style.REFERENCE, "large"),
        )
        for upstream in source.upstreams
    )


def fine_tuned(source: Source) -> Gain | None:
    """Return HConv's gain over the weighted sum, both fine-tuned end to end."""
    cells = (
        Place("mono_1h", "hubert_base", interface, tuning="fine_tuned")
        for interface in ("hconv", style.REFERENCE)
    )
    return gain(source, *cells)


def shrunk(source: Source) -> Gain | None:
    """Return how much larger that gain is with a frozen upstream."""
    frozen = over(source, ["mono_1h"], ["hubert_base"], "hconv", style.REFERENCE)
    return difference(frozen, fine_tuned(source))


def base_over_large(source: Source) -> Gain | None:
    """Return the gain of HuBERT Base with HConv over HuBERT Large with the weighted sum, on PR."""
    return gain(
        source, Place("pr", "hubert_base", "hconv"), Place("pr", "hubert_large", style.REFERENCE)
    )


# ---- the claims

WS = "the weighted sum"
CLAIMS: dict[str, tuple[str, tuple[Part, ...]]] = {
    "1": (
        "The weighted sum is suboptimal on most tasks; HConv is best overall",
        (
            Part("1a", f"Some interface beats {WS} on more than half of the tasks",
                 "weighted_sum and another interface; any task and upstream",
                 "share of tasks > 50 %; partial conjunction of the tasks' Holm-corrected tests",
                 beaten_on_most_tasks),
            Part("1b", "HConv beats every other interface, averaged over tasks and upstreams",
                 "hconv and another interface; any task and upstream",
                 "gain over the strongest other > 0; all of them must be rejected",
                 best_of_all),
        ),
    ),
    "2": (
        "CLS pooling needs data: poor at 10 min, competitive at 1 h",
        (
            Part("2a", f"CLS pooling is worse than {WS} at 10 min",
                 "cls_pooling, weighted_sum; mono_10min; hubert_base",
                 "gain < 0", lambda s: below(cls_with_data(s, "mono_10min"))),
            Part("2b", f"CLS pooling is competitive with {WS} at 1 h",
                 "cls_pooling, weighted_sum; mono_1h; hubert_base",
                 f"gain > {MARGIN:g} %".replace("-", "−"),
                 lambda s: above(cls_with_data(s, "mono_1h"), MARGIN)),
            Part("2c", "Its gain is larger at 1 h than at 10 min",
                 "cls_pooling, weighted_sum; mono_10min, mono_1h; hubert_base",
                 "gain at 1 h − gain at 10 min > 0",
                 lambda s: above(difference(
                     cls_with_data(s, "mono_1h"), cls_with_data(s, "mono_10min")))),
        ),
    ),
    "3": (
        "HConv's gain grows with the depth of the upstream",
        (
            Part("3", f"HConv's gain over {WS} is larger on the deeper encoder",
                 "hconv, weighted_sum; any task; both sizes of HuBERT or of WavLM",
                 "gain on Large − gain on Base > 0, mean over tasks and families",
                 lambda s: above(with_depth(s))),
        ),
    ),
    "4": (
        "Speaker verification is the exception (HuBERT, WavLM)",
        (
            Part("4a", f"HConv is worse than {WS} on SV",
                 "hconv, weighted_sum; sv; a HuBERT or WavLM",
                 "gain < 0, mean over upstreams", lambda s: below(on_verification(s))),
            Part("4b", "Its gain is smaller on SV than on the other tasks",
                 "hconv, weighted_sum; sv and another task; a HuBERT or WavLM",
                 "gain on SV − mean gain on the others < 0",
                 lambda s: below(verification_against_others(s))),
        ),
    ),
    "5": (
        "A larger downstream does not close the gap",
        (
            Part("5", f"HConv beats {WS} with an enlarged downstream",
                 "hconv, weighted_sum with an enlarged downstream; mono_1h",
                 "gain > 0, mean over upstreams", lambda s: above(over_large_downstream(s))),
        ),
    ),
    "6": (
        "The gap shrinks, but stays, under fine-tuning",
        (
            Part("6a", f"HConv beats {WS}, both fine-tuned",
                 "hconv, weighted_sum, fine-tuned; mono_1h; hubert_base",
                 "gain > 0", lambda s: above(fine_tuned(s))),
            Part("6b", "Its gain is smaller than with a frozen upstream",
                 "hconv, weighted_sum, fine-tuned and frozen; mono_1h; hubert_base",
                 "gain frozen − gain fine-tuned > 0", lambda s: above(shrunk(s))),
        ),
    ),
    "7": (
        f"HuBERT Base with HConv beats HuBERT Large with {WS} on PR",
        (
            Part("7", f"HuBERT Base with HConv beats HuBERT Large with {WS} on PR",
                 "pr; hubert_base with hconv, hubert_large with weighted_sum",
                 "gain > 0", lambda s: above(base_over_large(s))),
        ),
    ),
}  # fmt: skip
