"""Checkpoints that s3prl opens: read without running what they hold.

s3prl calls ``torch.load``, in places with ``weights_only=False``, and evaluates a few strings of
the configuration that it finds in the file (``eval(cfg.conv_feature_layers)``). Within
:func:`reading` both are held to what a checkpoint needs: tensors, plain values and argument lists;
lists of numbers.
"""

import pickle
import re
from argparse import Namespace
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from ssl_bench.errors import StudyError
from ssl_bench.upstreams._checkpoints import unfit_by_message

EVALUATED = (
    "conv_feature_layers",
    "conv_aggregator_layers",
    "override_encoder_layers",
    "extractor_conv_feature_layers",
    "feat_type",
    "xformers_att_config",
)
"""Configuration values that s3prl's models pass to ``eval``."""
HARMLESS = re.compile(r"(?!.*\*\*)[\d\s()\[\],+*]*|[a-z]+")
"""Lists of layers such as ``[(512,10,5)] + [(512,3,2)] * 4`` without powers, or one plain name."""


@contextmanager
def reading(where: str, trusted: bool) -> Iterator[list[Path]]:
    """Hold ``torch.load`` to weights within; the list it gives is filled with the files read.

    Args:
        where: names the checkpoint in errors.
        trusted: unpickle and evaluate whatever a file holds.

    Raises:
        StudyError: on leaving, if the checkpoint could not be read or did not fit its model.
    """
    original, files = torch.load, []

    def load(source: Any, *args: Any, **keys: Any) -> Any:
        if isinstance(source, str | Path):
            files.append(Path(source))
        if not args:
            keys.setdefault("map_location", "cpu")
        with torch.serialization.safe_globals([Namespace]):
            found = original(source, *args, **{**keys, "weights_only": not trusted})
        if not trusted:
            _refuse_code(where, found)
        return found

    torch.load = load  # type: ignore[assignment]
    try:
        yield files
    except pickle.UnpicklingError as error:
        named = re.search(r"GLOBAL (\S+)", str(error))
        if named is None:
            raise StudyError(
                f"upstream: the checkpoint of {where}: expected torch's format, found another"
            ) from error
        raise StudyError(
            f"upstream: the checkpoint of {where} holds more than weights ({named[1]}), expected "
            "weights alone: reading it could run any code. If you trust the file, set "
            "trust_checkpoint: true"
        ) from error
    except OSError as error:
        raise StudyError(
            f"upstream: {where} could not be downloaded or read ({_line(error)})"
        ) from error
    except ImportError as error:
        raise StudyError(
            f"upstream: {where} needs a package that is not installed ({_line(error)})"
        ) from error
    except (RuntimeError, AssertionError, LookupError, ValueError, TypeError, EOFError) as error:
        raise unfit_by_message(where, str(error)) or StudyError(
            f"upstream: the checkpoint of {where} could not be read ({_line(error)})"
        ) from error
    finally:
        torch.load = original


def _refuse_code(where: str, found: Any) -> None:
    """Look through nested settings for strings that s3prl would evaluate."""
    if isinstance(found, Namespace):
        found = vars(found)
    if not isinstance(found, Mapping):
        return
    for key, value in found.items():
        if key in EVALUATED and isinstance(value, str) and not HARMLESS.fullmatch(value):
            raise StudyError(
                f"upstream: the checkpoint of {where} has {key}: {value!r}, which s3prl would run "
                "as code; expected a list of numbers"
            )
        _refuse_code(where, value)


def _line(error: Exception) -> str:
    return ": ".join([type(error).__name__, *str(error).splitlines()[:1]])
