"""Bad inputs on the command line: exit status 2, one line that says what, nothing half-written."""

import hashlib
from pathlib import Path

import pytest
from bad_inputs import computed, recordings, studies
from bad_inputs.conftest import call
from bad_inputs.house import Row

TABLE: dict[str, Row] = {
    f"{sort}: {name}": row
    for sort, rows in {
        "study": studies.ROWS,
        "manifest": recordings.LISTS,
        "audio": recordings.AUDIO,
        "labels": recordings.LABELS,
        "encoder": computed.ENCODERS,
        "cache": computed.CACHES,
        "tables": computed.TABLES_,
    }.items()
    for name, row in rows.items()
}


def snapshot() -> dict[str, str]:
    """Return every file below the working directory with a hash of what it holds."""
    return {
        str(path): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in Path().rglob("*")
        if path.is_file()
    }


@pytest.mark.parametrize("row", TABLE.values(), ids=TABLE)
def test_a_bad_input(row: Row, at, capfd, monkeypatch) -> None:
    at(row.command)
    for name, value in row.environment.items():
        monkeypatch.setenv(name, value)
    row.spoil()
    before = snapshot()
    capfd.readouterr()
    status = call(row.command)
    said = capfd.readouterr().err
    assert (status, said.count("\n")) == (2, 1), said
    assert said.startswith("error: ")
    rest = said
    for part in (row.where, row.found, row.expected):
        assert part
        assert part in rest, said
        rest = rest.replace(part, "", 1)  # none of the three says another, too
    # An output of before may be gone, but nothing is new or changed.
    assert snapshot().items() <= before.items()


def test_the_table_is_as_long_as_it_says() -> None:
    assert len(TABLE) >= 60
