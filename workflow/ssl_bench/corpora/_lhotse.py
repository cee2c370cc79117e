"""From what a recipe of lhotse reads to CutSets.

A recipe passes over files that are not there, ends at the first that it cannot read, and leaves
utterances in an order of its own. So a loader says beforehand which utterances a corpus has: files
are tried before the recipe runs, and what the recipe returns must be all of them.
"""

import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr
from pathlib import Path
from typing import Any, NamedTuple

from ssl_bench import audio
from ssl_bench.corpora._recordings import cut_set, refuse, some, tell_other_forms
from ssl_bench.errors import StudyError
from ssl_bench.progress import say, track


class Named(NamedTuple):
    """An utterance that label files name: its id here, its recording, and who speaks."""

    id: str
    path: Path
    speaker: str | None = None


Manifests = Mapping[str, Any]
"""``recordings`` and ``supervisions`` of a split, of which each recording has one."""
Labels = Callable[[Any, Named], None]
"""Completes a supervision of the recipe by what the label files say besides."""


@contextmanager
def reading(where: str, utterances: Mapping[str, Sequence[Named]]) -> Iterator[None]:
    """Try the recordings of all splits, then let a recipe read them without its progress bars.

    Raises:
        StudyError: recordings that cannot be used: how many, and why the first few cannot.
    """
    bad = []
    for split, listed in utterances.items():
        for named in track(listed, f"{where}: reading headers of {split}"):
            try:
                audio.header(named.path)
            except StudyError as error:
                bad.append(str(error))
    refuse(where, bad)
    say(f"{where}: lhotse's recipe reads {sum(map(len, utterances.values())):,} recordings")
    with redirect_stderr(io.StringIO()):
        yield


def cuts(
    where: str,
    utterances: Mapping[str, Sequence[Named]],
    manifests: Mapping[str, Manifests],
    complete: Labels,
) -> dict[str, Any]:
    """Join recordings and supervisions to one CutSet per split, in the order of ``utterances``.

    Raises:
        StudyError: the recipe has passed over utterances.
    """
    made: dict[str, list[Any]] = {}
    for split, listed in utterances.items():
        recordings = {Path(r.sources[0].source): r for r in manifests[split]["recordings"]}
        supervisions = {s.recording_id: s for s in manifests[split]["supervisions"]}
        lost = [named.id for named in listed if named.path not in recordings]
        if lost:
            raise StudyError(f"{where}: {some('utterances are passed over by lhotse', lost)}")
        made[split] = []
        for named in listed:
            cut = recordings[named.path].to_cut()
            supervision = supervisions[cut.recording_id]
            cut.id = cut.recording.id = named.id
            supervision.id = supervision.recording_id = named.id
            complete(supervision, named)
            cut.supervisions = [supervision]
            made[split].append(cut)
    tell_other_forms(where, made)
    return {split: cut_set(listed) for split, listed in made.items() if listed}
