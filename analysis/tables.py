"""Load and check the tables of a study; everything else in this package starts from them."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pandas as pd

from analysis import style
from ssl_bench.errors import StudyError, no_column, suggest
from ssl_bench.read_back import parquet_of

NUMBERS: dict[str, dict[str, bool]] = {
    "results": {
        "layer": False,
        "seed": True,
        "learning_rate": False,
        "dev": True,
        "test": True,
        "n_test": True,
        "interface_parameters": True,
    },
    "scores": {
        "layer": False,
        "seed": True,
        "errors": False,
        "reference_length": False,
        "correct": False,
        "score": False,
        "label": False,
    },
    "sweep": {"layer": False, "learning_rate": True, "seed": True, "dev": False},
    "layer_profile": {"seed": True, "layer": True, "share": True},
    "history": {"layer": False, "seed": True, "step": True, "train_loss": False, "dev": False},
    "costs": {"layer": False, "seed": True, "seconds": True, "peak_memory_mb": True},
    "similarity": {"layer_a": True, "layer_b": True, "value": True},
    "averages": {"seed": True, "dev": True, "test": True},
}
"""Numeric columns of every table that this package reads, and whether each must be filled."""

TEXTS: dict[str, tuple[str, ...]] = {
    "results": ("study", "task", "upstream", "interface", "metric", "higher_is_better"),
    "scores": ("task", "upstream", "interface", "id", "speaker"),
    "sweep": ("task", "upstream", "interface", "chosen"),
    "layer_profile": ("task", "upstream", "interface", "kind"),
    "history": ("task", "upstream", "interface"),
    "costs": ("task", "upstream", "interface"),
    "similarity": ("upstream", "corpus", "measure"),
    "averages": ("task", "upstream", "interface", "metric", "higher_is_better", "tasks"),
}
FILES = {
    "results": "results.csv",
    "scores": "scores.parquet",
    "sweep": "sweep.csv",
    "layer_profile": "layer_profile.csv",
    "history": "history.csv",
    "costs": "costs.csv",
    "similarity": "similarity.csv",
    "averages": "averages.csv",
}
CELL = ["task", "upstream", "interface"]
SCORES = ("errors", "reference_length", "correct", "score", "label")
"""What a score table may hold; a task fills those of its kind."""
PROVENANCE = ("git_commit", "version", "fingerprint", "device")
"""Texts that may look like numbers."""


@dataclass(frozen=True)
class Tables:
    """The tables of one study; those that a study did not make are None."""

    results: pd.DataFrame
    scores: pd.DataFrame | None = None
    sweep: pd.DataFrame | None = None
    layer_profile: pd.DataFrame | None = None
    history: pd.DataFrame | None = None
    costs: pd.DataFrame | None = None
    similarity: pd.DataFrame | None = None
    averages: pd.DataFrame | None = None

    @property
    def study(self) -> str:
        """The study's name."""
        return str(self.results["study"].iloc[0])

    @cached_property
    def tasks(self) -> list[str]:
        """Tasks in the order in which they are shown."""
        return style.ordered(self.results["task"].unique(), style.TASKS)

    @cached_property
    def upstreams(self) -> list[str]:
        """Upstreams in the order in which they are shown."""
        return style.ordered(self.results["upstream"].unique(), style.UPSTREAMS)

    @cached_property
    def interfaces(self) -> list[str]:
        """Interfaces in the order in which they are shown."""
        return style.ordered(self.results["interface"].unique(), style.INTERFACES)

    @cached_property
    def seeds(self) -> list[int]:
        """Every seed that occurs."""
        return sorted(int(seed) for seed in self.results["seed"].unique())

    @cached_property
    def members(self) -> dict[str, list[list[str]]]:
        """Average → groups → tasks."""
        if self.averages is None:
            return {}
        named = self.averages.drop_duplicates("task").set_index("task")["tasks"]
        return {name: _groups(tasks) for name, tasks in named.items()}

    @cached_property
    def main_upstream(self) -> str:
        """The trained encoder with most cells; among equals the first as they are shown."""
        counts = self.results.drop_duplicates(CELL)["upstream"].value_counts()
        return max(self.upstreams, key=lambda u: (not style.is_baseline(u), counts[u]))

    def metric(self, task: str) -> tuple[str, bool]:
        """Return a task's metric and whether higher is better."""
        row = self.results[self.results["task"] == task].iloc[0]
        return str(row["metric"]), bool(row["higher_is_better"])

    @cached_property
    def cells(self) -> pd.DataFrame:
        """``results`` with one layer per ``single_layer`` cell: the best on dev, never on test."""
        return best_layers(self.results)

    @cached_property
    def probes(self) -> pd.DataFrame:
        """Rows of ``results`` whose interface was trained on one layer after another."""
        layers = self.results.groupby("interface")["layer"].transform("nunique")
        return self.results[(layers > 1) & self.results["layer"].notna()]

    @cached_property
    def errors(self) -> pd.DataFrame:
        """``cells`` with ``error`` (lower is better for every task) and ``improvement``.

        ``error`` is the metric, or 100 − metric where higher is better. ``improvement`` is the
        share of the weighted sum's mean error that is gone, in percent, so that up is better for
        every task; it is missing where a study has no weighted sum.
        """
        frame = self.cells.copy()
        frame["error"] = frame["test"].where(~frame["higher_is_better"], 100 - frame["test"])
        base = frame[frame["interface"] == style.REFERENCE]
        mean = base.groupby(["task", "upstream"])["error"].mean().rename("base")
        frame = frame.merge(mean.reset_index(), on=["task", "upstream"], how="left")
        frame["improvement"] = 100 * (frame["base"] - frame["error"]) / frame["base"]
        return frame


def best_layers(results: pd.DataFrame) -> pd.DataFrame:
    """Keep of every cell with layers the one whose mean dev value over seeds is best.

    A cell that has a row without a layer, too, is an average whose tasks chose layers of their own:
    that row is kept.
    """
    whole = results["layer"].isna()
    cell = pd.MultiIndex.from_frame(results[CELL])
    layered = results[~whole & ~cell.isin(cell[whole])]
    if layered.empty:
        return results[whole]
    mean = layered.groupby([*CELL, "layer", "higher_is_better"])["dev"].mean()
    mean = mean.reset_index()
    mean["loss"] = mean["dev"].where(~mean["higher_is_better"], -mean["dev"])
    best = mean.sort_values([*CELL, "loss", "layer"]).groupby(CELL, as_index=False).first()
    kept = layered.merge(best[[*CELL, "layer"]], on=[*CELL, "layer"])
    return pd.concat([results[whole], kept], ignore_index=True)


def load(folder: str | Path) -> Tables:
    """Read and check ``results/<study>/tables``.

    Raises:
        StudyError: the folder or results.csv is missing, or a table does not hold what it should.
    """
    folder = Path(folder)
    if not (folder / FILES["results"]).is_file():
        raise StudyError(
            f"{folder / FILES['results']}: no such table; expected what the collect stage makes"
        )
    found = {name: _read(folder / file) for name, file in FILES.items()}
    return checked(found, str(folder))


def checked(frames: dict[str, pd.DataFrame | None], source: str = "tables") -> Tables:
    """Check tables given as data frames; an empty one counts as absent."""
    results = frames.get("results")
    if results is None or results.empty:
        raise StudyError(
            f"{source}/{FILES['results']}: has no rows; expected one for each cell and seed"
        )
    clean: dict[str, pd.DataFrame] = {}
    for name, frame in frames.items():
        if name not in FILES:
            raise StudyError(f"{source}: unknown table {name!r}; {suggest(name, FILES)}")
        if frame is not None and not frame.empty:
            clean[name] = _typed(name, frame, f"{source}/{FILES[name]}")
    for problem in _problems(clean, source):
        raise StudyError(problem)
    return Tables(**clean)


def _read(path: Path) -> pd.DataFrame | None:
    if not path.is_file():
        return None
    if path.suffix == ".parquet":
        return parquet_of(path)
    try:
        texts = {"study", "metric", "corpus", "measure", "kind", "tasks", *CELL, *PROVENANCE}
        return pd.read_csv(path, dtype=dict.fromkeys(texts, str))
    except pd.errors.EmptyDataError:
        return None
    except (ValueError, OSError) as error:
        found = " ".join(str(error).split())
        raise StudyError(f"{path}: not readable: expected CSV, found: {found}") from None


def _typed(name: str, frame: pd.DataFrame, source: str) -> pd.DataFrame:
    if name == "scores":
        unused = [column for column in SCORES if column not in frame]
        frame = frame.assign(**dict.fromkeys(unused, float("nan")))
    needed = [*TEXTS[name], *NUMBERS[name]]
    for column in needed:
        if column not in frame:
            raise StudyError(f"{source}: {no_column(column, frame, needed)}")
    frame = frame.copy()
    for column, required in NUMBERS[name].items():
        try:
            frame[column] = pd.to_numeric(frame[column])
        except (ValueError, TypeError):
            bad = frame[column][pd.to_numeric(frame[column], errors="coerce").isna()].iloc[0]
            raise StudyError(f"{source}: {column}: expected numbers, found {bad!r}") from None
        if required and frame[column].isna().any():
            row = int(frame[column].isna().to_numpy().argmax()) + 2
            raise StudyError(f"{source}: line {row}: {column} is empty, expected a number")
    for column in TEXTS[name]:
        if column in ("higher_is_better", "chosen"):
            frame[column] = _flag(frame[column], f"{source}: {column}")
        elif frame[column].isna().any() and column != "speaker":
            row = int(frame[column].isna().to_numpy().argmax()) + 2
            raise StudyError(f"{source}: line {row}: {column} is empty, expected a name")
    if "layer" in NUMBERS[name]:
        frame["layer"] = frame["layer"].astype("Int64")
    if name == "scores":
        for column in ("task", "upstream", "interface", "id", "speaker"):
            frame[column] = frame[column].astype("category")
    return frame


def _flag(column: pd.Series, where: str) -> pd.Series:
    values = (
        column.astype(str).str.lower().map({"true": True, "false": False, "1": True, "0": False})
    )
    if values.isna().any():
        raise StudyError(
            f"{where}: expected true or false, found {column[values.isna()].iloc[0]!r}"
        )
    return values.astype(bool)


def _problems(frames: dict[str, pd.DataFrame], source: str) -> Iterator[str]:
    results, where = frames["results"], f"{source}/{FILES['results']}"
    key = [*CELL, "layer", "seed"]
    twice = results[results.duplicated(key)]
    if len(twice):
        yield f"{where}: twice the same cell and seed, expected once: {_name(twice.iloc[0][key])}"
    for column in ("metric", "higher_is_better"):
        count = results.groupby("task")[column].nunique()
        if (count > 1).any():
            yield f"{where}: task {count.idxmax()!r} has several values of {column}, expected one"
    above = results[(results["test"] < 0) | (results["higher_is_better"] & (results["test"] > 100))]
    if len(above):
        row = above.iloc[0]
        yield f"{where}: {_name(row[key])}: test: expected percent, found {row['test']}"
    known = results.groupby("task").size().index
    for name, frame in frames.items():
        if name == "averages":
            named = {task for tasks in frame["tasks"] for group in _groups(tasks) for task in group}
        else:
            named = set(frame["task"].unique()) if "task" in frame else set()
        unknown = named - set(known)
        for task in sorted(unknown):
            hint = suggest(task, known)
            yield f"{source}/{FILES[name]}: task {task!r} is not in results.csv; {hint}"


def _groups(tasks: str) -> list[list[str]]:
    """Take averages.csv's ``tasks`` apart: a ``;`` between groups, spaces between tasks."""
    return [group.split() for group in tasks.split(";")]


def _name(values: pd.Series) -> str:
    return ", ".join(f"{k} {v}" for k, v in values.items() if not pd.isna(v))
