"""Read YAML and JSON files that people write; a key that stands twice is a mistake."""

import json
import re
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from ssl_bench.errors import StudyError

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
SHOWN = 20
"""Characters of what was found that an error line shows."""
_MERGE = "tag:yaml.org,2002:merge"


class _Once(_Loader):
    """Of two equal keys YAML's own reader silently keeps the second."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Hashable, Any]:
        """Return a mapping; refuse one that has a key twice."""
        keys = [self.construct_object(key, deep=True) for key, _ in node.value if key.tag != _MERGE]
        for number, key in enumerate(keys):
            if key in keys[:number]:
                raise yaml.constructor.ConstructorError(
                    None, None, f"key {key!r} stands twice", node.value[number][0].start_mark
                )
        made: dict[Hashable, Any] = super().construct_mapping(node, deep)
        return made


def read_mapping(path: Path) -> dict[str, Any]:
    """Return what a ``.json`` or, under any other name, a YAML file holds.

    Raises:
        StudyError: not UTF-8, not YAML or JSON, a key that stands twice, an alias within itself,
            something else than a mapping.
    """
    try:
        text = path.read_text(encoding="utf-8")
        # YAML's reader takes JSON, too, at a hundredth of the speed, and every job reads one.
        raw = _json(path, text) if path.suffix == ".json" else _yaml(path, text)
        json.dumps(raw, default=str, skipkeys=True)
    except UnicodeDecodeError:
        raise not_utf8(path) from None
    except (RecursionError, ValueError):
        raise StudyError(
            f"{path}: expected an alias (*name) after what it names, found one within it"
        ) from None
    if not isinstance(raw, dict):
        raise StudyError(f"{path}: expected a mapping of keys, found {_sort(raw)}")
    return raw


def not_utf8(path: Path) -> StudyError:
    """Return the error of a text file in another encoding: the first byte that does not fit."""
    try:
        path.read_bytes().decode("utf-8")
    except UnicodeDecodeError as error:
        byte, line = error.object[error.start], error.object.count(b"\n", 0, error.start) + 1
        found = f"found the byte 0x{byte:02x} in line {line}"
    else:
        found = "found other bytes"
    return StudyError(f"{path}: not UTF-8: {found}; expected text that is saved with that encoding")


def not_json(error: json.JSONDecodeError) -> str:
    """Say what was expected and found where JSON ends to be any; the place is for the caller."""
    expected = {
        "Unterminated string starting at": "the end of a string",
        "Extra data": "the end",
    }.get(error.msg, f"JSON ({error.msg})")
    if error.msg.startswith("Expecting "):
        expected = error.msg.removeprefix("Expecting ").replace("property", "a property")
    return f"not JSON: expected {expected}, found {_here(error.doc, error.pos)}"


def _here(text: str, position: int) -> str:
    rest = text[position:].strip()
    return repr(rest.splitlines()[0][:SHOWN]) if rest else "the end"


def _sort(raw: Any) -> str:
    if isinstance(raw, list):
        return "a list"
    return "nothing" if raw is None else repr(raw)[:SHOWN]


def _yaml(path: Path, text: str) -> Any:
    loader = None
    try:
        loader = _Once(text)
        return loader.get_single_data()
    except yaml.constructor.ConstructorError as error:
        if error.context is None and "stands twice" in str(error.problem):
            line = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
            raise StudyError(f"{path}: {line}{error.problem}, expected once") from None
        raise _not_yaml(path, text, error) from None
    except yaml.YAMLError as error:
        raise _not_yaml(path, text, error) from None
    finally:
        if loader is not None:
            loader.dispose()


def _not_yaml(path: Path, text: str, error: yaml.YAMLError) -> StudyError:
    mark = getattr(error, "problem_mark", None)
    if not isinstance(error, yaml.MarkedYAMLError) or mark is None:
        reason = " ".join(str(error).split())
        return StudyError(f"{path}: not YAML: expected plain text, found {reason}")
    problem, found = str(error.problem), _here(text, mark.index)
    if named := re.fullmatch(r"(?:did|could) not find expected (.*)", problem):
        said = f"expected {named[1]}, found {found}"
    elif tag := re.fullmatch(r"could not determine a constructor for the tag '(.*)'", problem):
        said = f"expected plain data, found the tag {tag[1]!r}"
    else:
        said = f"expected YAML, found {found} ({problem})"
    begun = ""
    if error.context and error.context_mark:
        begins = " that begins" if error.context.startswith("while") else ""
        begun = f" ({error.context}{begins} in line {error.context_mark.line + 1})"
    return StudyError(f"{path}: line {mark.line + 1}: not YAML: {said}{begun}")


def _json(path: Path, text: str) -> Any:
    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, value in pairs:
            if key in found:
                raise StudyError(f"{path}: key {key!r} stands twice, expected once")
            found[key] = value
        return found

    try:
        return json.loads(text, object_pairs_hook=once)
    except json.JSONDecodeError as error:
        place = f"line {error.lineno} column {error.colno}"
        raise StudyError(f"{path}: {not_json(error)} at {place}") from None
