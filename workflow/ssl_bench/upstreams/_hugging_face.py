"""Models of Hugging Face transformers, from the hub or a folder: found, loaded, checked.

Weights are read from safetensors, or from pickles with ``weights_only``; code that a model brings
along is never run (``trust_remote_code`` is off).
"""

import json
import pickle
from collections.abc import Collection
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ssl_bench.errors import StudyError, suggest
from ssl_bench.upstreams._checkpoints import more_than_weights, unfit
from ssl_bench.upstreams.base import UpstreamConfig

WEIGHTS = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
"""Where transformers looks for weights, first come first."""


CONFIGURATIONS = ("config.json", "preprocessor_config.json")


class HuggingFaceConfig(UpstreamConfig):
    """Keys of every upstream that is a model of transformers."""

    model: str
    """Hub id, or a local folder in the Hugging Face format."""
    revision: str | None = None
    """Branch, tag or commit on the hub."""
    untrained: bool = False
    """Random weights in the same architecture: a baseline."""
    seed: int = 0
    """Seed of the random weights."""

    def inputs(self) -> list[Path]:
        """See :meth:`UpstreamConfig.inputs`: of a folder, none of the hub's cache."""
        wanted = CONFIGURATIONS if self.untrained else (*CONFIGURATIONS, "*.safetensors", "*.bin")
        return sorted(path for name in wanted for path in Path(self.model).glob(name))

    @property
    def source(self) -> dict[str, str]:
        """Arguments that choose the revision, for functions of transformers."""
        return {"revision": self.revision} if self.revision else {}


def read_architecture(config: HuggingFaceConfig, families: Collection[str]) -> Any:
    """Read a model's configuration.

    Raises:
        StudyError: there is no such model, or it is of none of the families.
    """
    from transformers import AutoConfig

    try:
        architecture = AutoConfig.from_pretrained(config.model, **config.source)
    except (OSError, ValueError) as error:
        raise StudyError(
            f"upstream: model {config.model!r}: expected a local Hugging Face folder or a name on "
            f"the hub, found: {str(error).splitlines()[0]}"
        ) from error
    if architecture.model_type not in families:
        raise StudyError(
            f"upstream: model {config.model!r} is of the family {architecture.model_type!r}, which "
            f"kind {config.kind!r} does not read; {suggest(architecture.model_type, families)}"
        )
    return architecture


def read_model(
    config: HuggingFaceConfig, architecture: Any, parts: tuple[str, ...], unused: tuple[str, ...]
) -> tuple[nn.Module, tuple[Path, ...]]:
    """Return a model in fp32 on the CPU, and the files that its weights were read from.

    Args:
        config: which model, and whether its weights are random.
        architecture: its configuration, from :func:`read_architecture`.
        parts: beginnings of the keys that the encoder consists of. Other keys of a checkpoint are
            heads and decoders; one of these that the model does not have is an error.
        unused: parts of keys that encoding does not use, which checkpoints may leave out.

    Raises:
        StudyError: weights cannot be read, lack keys, have extra ones or ones of another shape.
    """
    from transformers import AutoModel

    if config.untrained:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            return AutoModel.from_config(architecture).float(), ()
    from safetensors import SafetensorError
    from transformers.utils import logging

    logging.disable_progress_bar()
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()  # its table of keys, of which what matters is said below
    try:
        model, report = AutoModel.from_pretrained(
            config.model,
            config=architecture,
            dtype=torch.float32,
            weights_only=True,
            ignore_mismatched_sizes=True,  # they are reported, and refused below
            output_loading_info=True,
            **config.source,
        )
    except (OSError, ValueError, RuntimeError, pickle.UnpicklingError, SafetensorError) as error:
        reason = more_than_weights(str(error)) or str(error).splitlines()[0]
        raise StudyError(
            f"upstream: model {config.model!r} has no readable weights: expected a "
            f"{architecture.model_type!r} in safetensors or as a state dict, found: {reason}"
        ) from error
    finally:
        logging.set_verbosity(verbosity)
    prefix = f"{model.base_model_prefix}."
    missing = [
        key
        for key in report["missing_keys"]
        if key.startswith(parts) and not any(part in key for part in unused)
    ]
    extra = [key for key in report["unexpected_keys"] if key.removeprefix(prefix).startswith(parts)]
    misshapen = [key for key, *_ in report["mismatched_keys"] if key.startswith(parts)]
    if missing or extra or misshapen:
        raise unfit(f"model {config.model!r}", missing, extra, misshapen)
    return model.float(), weight_files(config)


def weight_files(config: HuggingFaceConfig) -> tuple[Path, ...]:
    """Return the files that a model's weights lie in, in the folder or the hub's cache."""
    from transformers.utils import cached_file

    def find(name: str) -> Path | None:
        found = cached_file(
            config.model,
            name,
            local_files_only=True,
            _raise_exceptions_for_missing_entries=False,
            _raise_exceptions_for_connection_errors=False,
            **config.source,
        )
        return Path(found) if found else None

    first = next((path for name in WEIGHTS if (path := find(name))), None)
    if first is None:
        return ()
    if first.suffix != ".json":
        return (first,)
    shards = sorted(set(json.loads(first.read_text(encoding="utf-8"))["weight_map"].values()))
    return tuple(path for name in shards if (path := find(name)))
