"""What every configuration model has in common: strict types, no unknown keys, immutable."""

import re
from typing import Any, get_args

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails

from ssl_bench.errors import StudyError, suggest

SORTS = {
    "dictionary": "a mapping",
    "integer": "an integer",
    "number": "a number",
    "string": "a string",
    "boolean": "true or false",
    "list": "a list",
    "tuple": "a list",
}
"""By pydantic's name, what YAML's are called."""


class Strict(BaseModel):
    """A configuration model that rejects unknown keys, silent conversions, NaN and infinity."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


def validated(model: type[BaseModel], values: Any, where: str) -> Any:
    """Return values as a model.

    Raises:
        StudyError: pydantic's first complaint as one line: ``where`` and key, expected and found.
    """
    try:
        return model.model_validate(values)
    except ValidationError as error:
        # A key that is missing may be one that is misspelt.
        first = min(error.errors(), key=lambda e: e["type"] != "extra_forbidden")
        key = ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            hint = suggest(str(first["loc"][-1]), _beside(model, first["loc"]).model_fields)
            raise StudyError(f"{where}: unknown key {key!r}; {hint}") from None
        if first["type"] == "missing":
            fields = _beside(model, first["loc"]).model_fields
            needed = ", ".join(name for name, field in fields.items() if field.is_required())
            found = ", ".join(map(str, first["input"])) or "none"
            raise StudyError(
                f"{where}: missing key {key!r}; found: {found}; expected: {needed}"
            ) from None
        place = f"{where}: {key}" if key else where
        found = _given(values, first["loc"], first["input"])
        raise StudyError(f"{place}: {_expected(first)}, found {found!r}") from None


def _beside(model: type[BaseModel], loc: tuple[int | str, ...]) -> type[BaseModel]:
    """Return the (nested) model of whose keys the last part of ``loc`` should be one."""
    for part in loc[:-1]:
        if str(part) in model.model_fields:  # else the number or the key of an entry
            kind = model.model_fields[str(part)].annotation
            model = next(k for k in (*get_args(kind), kind) if hasattr(k, "model_fields"))
    return model


def _expected(complaint: ErrorDetails) -> str:
    """Say what pydantic's complaint would have had, without what it found."""
    message = complaint["msg"].removeprefix("Value error, ")
    if complaint["type"] == "too_short":
        least = complaint["ctx"]["min_length"]
        return f"expected at least {least} {'entry' if least == 1 else 'entries'}"
    if message.startswith("Input should be "):
        rest = message.removeprefix("Input should be ")
        rest = re.sub("a valid ([a-z]+).*", lambda sort: SORTS.get(sort[1], sort[0]), rest)
        return f"expected {'a number ' if rest.startswith(('greater', 'less')) else ''}{rest}"
    if named := re.fullmatch("(String|List|Tuple|Dictionary) should (.*)", message):
        return f"expected a {named[1].lower()} to {named[2]}"
    return message[0].lower() + message[1:]


def _given(values: Any, loc: tuple[int | str, ...], otherwise: Any) -> Any:
    """Return what a study says at a key; ``otherwise`` where it does not say it so."""
    for part in loc:
        inside = isinstance(values, dict) and part in values
        inside |= isinstance(values, list) and isinstance(part, int)
        if not inside:
            return otherwise
        values = values[part]
    return values
