"""Which files of a study's corpora are missing: asked before any job starts."""

from ssl_bench import registry
from ssl_bench.corpora._recordings import EXPECTED, some
from ssl_bench.errors import StudyError
from ssl_bench.progress import say
from ssl_bench.study import Study


def missing(study: Study, corpus: str) -> list[str]:
    """List the files that a corpus's labels name and that are not there.

    Raises:
        StudyError: a list that is not in order.
    """
    config = study.corpus_config(corpus)
    kind = registry.load("corpora", config.kind)
    return kind.missing(config) if hasattr(kind, "missing") else []


def lacking(study: Study, corpus: str) -> list[str]:
    """List the folders that a corpus can do without, but that published lists name."""
    config = study.corpus_config(corpus)
    kind = registry.load("corpora", config.kind)
    return kind.lacking(config) if hasattr(kind, "lacking") else []


def tell(study: Study, *corpora: str) -> None:
    """Say which folders corpora lack, those that lack the same together; it is no error."""
    lists: dict[str, list[str]] = {}
    for corpus in corpora or study.corpora:
        if gone := lacking(study, corpus):
            line = some("folders that published lists name are not there", gone)
            lists.setdefault(line, []).append(corpus)
    for line, listed in lists.items():
        say(f"{_named(listed)}: {line}")


def check(study: Study, prepared: bool = True) -> None:
    """Raise StudyError if files of any corpus are missing: how many of each, and the first few.

    Corpora that miss the same (folds of one, say) are told together.

    Args:
        study: the study.
        prepared: look for the files of corpora that have been prepared, too.
    """
    problems: dict[str, list[str]] = {}
    for corpus in study.corpora:
        if not prepared and (study.corpus_dir(corpus) / "table.parquet").is_file():
            continue
        try:
            gone = missing(study, corpus)
        except StudyError as error:
            problems.setdefault(str(error), []).append(corpus)
            continue
        if gone:
            problems.setdefault(f"{some('files are missing', gone)}; {EXPECTED}", []).append(corpus)
    if problems:
        told = (f"{_named(corpora)}: {problem}" for problem, corpora in problems.items())
        raise StudyError(" | ".join(told))


def _named(corpora: list[str]) -> str:
    others = len(corpora) - 1
    return f"corpora.{corpora[0]}" + (f" and {others} more" if others else "")
