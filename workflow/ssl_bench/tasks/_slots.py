"""Slots marked in text, ``B-city new york E-city``: what SUPERB's slot filling counts.

Source: s3prl ``downstream/ctc/metric.py``.
"""

import re

from ssl_bench import metrics

SLOT = re.compile(r"B-(\S+) (.+?) E-\1")
MARK = re.compile(r"B-\S+ | E-\S+")
Slots = dict[str, list[str]]


def read_slots(marked: str, clean: bool) -> Slots:
    """Return the values of each type of slot in a marked text; ``clean`` drops marks inside them.

    s3prl cleans hypotheses only, for references have no mark inside a slot.
    """
    found: Slots = {}
    for name, value in SLOT.findall(re.sub(" +", " ", marked)):
        found.setdefault(name, []).append(MARK.sub("", value) if clean else value)
    return found


def type_f1(reference: Slots, hypothesis: Slots) -> float:
    """Return the F1 score, 0 to 1, of the set of types of slots in one utterance."""
    if not reference and not hypothesis:
        return 1.0
    both = len(reference.keys() & hypothesis.keys())
    return 2 * both / (len(reference) + len(hypothesis))


def value_errors(reference: Slots, hypothesis: Slots) -> tuple[int, int]:
    """Return character errors and length of the values of one utterance's reference slots.

    Each value is compared with the nearest value of the same type that was recognised, or with
    nothing; what was recognised beyond that does not count.
    """
    errors = length = 0
    for name, values in reference.items():
        heard = hypothesis.get(name, [""])
        for value in values:
            errors += int(metrics.edit_errors([value] * len(heard), heard).min())
            length += len(value)
    return errors, length
