"""Save a pre-trained encoder in the Hugging Face folder format, with its record and model card."""

import copy
import hashlib
import json
import platform
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from transformers import HubertModel

from ssl_bench.errors import StudyError
from ssl_bench.pretrain.card import card
from ssl_bench.pretrain.settings import Settings
from ssl_bench.pretrain.training import Report

LARGEST = 15_000_000
"""Bytes of a weights file that may be shipped."""

PREPROCESSOR = {
    "do_normalize": True,
    "feature_extractor_type": "Wav2Vec2FeatureExtractor",
    "feature_size": 1,
    "padding_side": "right",
    "padding_value": 0.0,
    "return_attention_mask": True,
    "sampling_rate": 16000,
}


def hardware(where: torch.device) -> str:
    """Return the name of what a stage ran on."""
    if where.type == "cuda":
        return torch.cuda.get_device_name(where)
    return f"CPU ({platform.machine()}, {torch.get_num_threads()} threads)"


def save(
    settings: Settings,
    size: str,
    encoder: HubertModel,
    report: Report,
    work: Path,
    out: Path,
    where: torch.device,
    minutes: float | None,
) -> Path:
    """Write ``hubert-mini-<size>`` below ``out`` and return the folder.

    Raises:
        StudyError: weights that fp16 cannot hold, or a file larger than may be shipped.
    """
    folder = out / f"hubert-mini-{size}"
    folder.mkdir(parents=True, exist_ok=True)
    difference, largest = _fp16_difference(encoder)
    encoder.half().save_pretrained(folder)
    weights = folder / "model.safetensors"
    if weights.stat().st_size > LARGEST:
        raise StudyError(
            f"{weights}: {weights.stat().st_size} bytes, expected at most {LARGEST}; "
            f"make sizes.{size} smaller"
        )
    (folder / "preprocessor_config.json").write_text(json.dumps(PREPROCESSOR, indent=2) + "\n")
    record = {
        "size": size,
        "parameters": sum(p.numel() for p in encoder.parameters()),
        "weights": {
            "sha256": hashlib.sha256(weights.read_bytes()).hexdigest(),
            "bytes": weights.stat().st_size,
            "fp16_difference": difference,
            "largest_state": largest,
        },
        "hardware": hardware(where),
        "time_limit_minutes": minutes,
        "versions": {
            "python": platform.python_version(),
            **{name: version(name) for name in ("torch", "transformers", "numpy")},
        },
        "speech": _read(work / "speech.json"),
        "first": _read(work / "first.json"),
        "second": asdict(report),
        "settings": settings.as_dict(),
    }
    (folder / "training.json").write_text(json.dumps(record, indent=1) + "\n")
    (folder / "README.md").write_text(card(record))
    weights.chmod(0o644)  # safetensors makes it readable for its owner alone
    return folder


def _fp16_difference(encoder: HubertModel) -> tuple[float, float]:
    """Return how far rounding the weights moves the states, and the largest state, on noise."""
    noise = torch.randn(1, 16_000, generator=torch.Generator().manual_seed(0))
    encoder = encoder.float().eval()
    rounded = copy.deepcopy(encoder).half().float()
    if not all(torch.isfinite(p).all() for p in rounded.parameters()):
        raise StudyError("pretrain: a weight is not finite, or too large for fp16")
    with torch.no_grad():
        pair = [
            torch.stack(m(noise, output_hidden_states=True).hidden_states)
            for m in (encoder, rounded)
        ]
    return float((pair[0] - pair[1]).abs().max()), float(pair[0].abs().max())


def _read(path: Path) -> Any:
    return json.loads(path.read_text()) if path.is_file() else None
