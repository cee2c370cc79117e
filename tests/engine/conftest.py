"""A study so small that it runs in a second: forty tones, a random encoder of four states."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from ssl_bench import corpus, features
from ssl_bench.study import Study, parse

CPU = torch.device("cpu")
HERTZ = {"low": 220.0, "mid": 440.0, "high": 880.0}
PHONES = {"low": "l o", "mid": "m i d", "high": "h ai"}
SIZES = {"train": 24, "dev": 6, "test": 9}


@pytest.fixture(scope="session")
def encoder_folder(tmp_path_factory) -> Path:
    """A HuBERT of random weights in the Hugging Face format: 4 states of width 16."""
    import transformers

    config = transformers.HubertConfig(
        hidden_size=16,
        num_hidden_layers=3,
        num_attention_heads=2,
        intermediate_size=32,
        conv_dim=(8,) * 7,
        num_conv_pos_embeddings=5,
        num_conv_pos_embedding_groups=2,
    )
    folder = tmp_path_factory.mktemp("encoder")
    torch.manual_seed(1)
    transformers.HubertModel(config).save_pretrained(folder)
    return folder


@pytest.fixture
def recordings(tone, tmp_path) -> Path:
    """Write tones of three pitches and ``list.tsv``; return the folder."""
    lines = ["path\tsplit\tspeaker\tkeyword\tphones"]
    for split, count in SIZES.items():
        for number in range(count):
            word = list(HERTZ)[number % 3]
            name = f"{split}-{number}.wav"
            seconds = 0.3 + 0.05 * (number % 7)
            tone(tmp_path / "audio" / name, seconds, hertz=HERTZ[word] * (1 + number / 200))
            speaker = f"{split}-{number % 2}"
            lines.append(f"audio/{name}\t{split}\t{speaker}\t{word}\t{PHONES[word]}")
    (tmp_path / "list.tsv").write_text("\n".join(lines) + "\n")
    return tmp_path


@pytest.fixture
def raw(recordings, encoder_folder, monkeypatch) -> dict[str, Any]:
    """A study of the tones as a mapping, in a working directory of its own."""
    monkeypatch.chdir(recordings)
    return {
        "name": "tiny",
        "device": "cpu",
        "seeds": 2,
        "job": "stream",
        "corpora": {"tones": {"kind": "manifest", "path": "list.tsv"}},
        "upstreams": {"mini": {"kind": "transformers", "model": str(encoder_folder)}},
        "tasks": {
            "ks": {"kind": "ks", "corpus": "tones", "hidden": 8},
            "pr": {"kind": "pr", "corpus": "tones", "hidden": 8},
        },
        "interfaces": {"weighted_sum": {}, "hconv": {}},
        "training": {
            "recipe": "none",
            "steps": 4,
            "batch_seconds": 4,
            "evaluations": 2,
            "buckets": 2,
        },
        "sweep": {"learning_rates": [1e-3, 1e-2]},
    }


@pytest.fixture
def ready(raw) -> Callable[..., Study]:
    """Return a function that changes keys of the study, prepares its data and returns it."""

    def make(**keys: Any) -> Study:
        study = parse({**raw, **keys})
        for name in study.corpora:
            corpus.prepare(study, name)
            for upstream in study.upstreams:
                features.compute(study, upstream, name, CPU)
        return study

    return make
