"""What every area's tests share: one thread, small audio files, the real recordings."""

import os

# Set before numpy or torch is imported: the tests share few cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import importlib.util
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import soundfile

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def repository() -> Path:
    """The repository's root."""
    return ROOT


@pytest.fixture(scope="session")
def real_recordings() -> Path:
    """The folder of real recordings, which the repository does not copy."""
    named = os.environ.get("SSL_BENCH_REAL_DATA")
    folder = Path(named) if named else ROOT.parent / "shared" / "data"
    if not (folder / "speechocean762.tsv").is_file():
        pytest.skip(f"real recordings: none in {folder}; set SSL_BENCH_REAL_DATA to their folder")
    return folder


@pytest.fixture(scope="session")
def layouts() -> ModuleType:
    """``published_layouts.py``: the builders of small corpora in the published layouts."""
    path = Path(__file__).with_name("published_layouts.py")
    spec = importlib.util.spec_from_file_location("published_layouts", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def tone() -> Callable[..., Path]:
    """Write a small audio file: ``tone(path, seconds=1.0, rate=16000, channels=1, hertz=440)``."""

    def write(
        path: Path,
        seconds: float = 1.0,
        rate: int = 16_000,
        channels: int = 1,
        hertz: float = 440.0,
    ) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        wave = 0.5 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)
        samples = np.repeat(wave[:, None], channels, axis=1).astype(np.float32)
        soundfile.write(path, samples, rate)
        return path

    return write


@pytest.fixture(scope="session")
def hubert_folder(tmp_path_factory):
    """A random post-norm HuBERT with a GroupNorm frontend: 4 states of width 16, stride 320."""
    import torch
    import transformers

    folder = tmp_path_factory.mktemp("hubert")
    torch.manual_seed(1)
    config = transformers.HubertConfig(
        hidden_size=16,
        num_hidden_layers=3,
        num_attention_heads=2,
        intermediate_size=32,
        conv_dim=(8,) * 7,
        num_conv_pos_embeddings=5,
        num_conv_pos_embedding_groups=2,
        layerdrop=0.0,
    )
    transformers.HubertModel(config).save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(
        '{"do_normalize": true, "feature_extractor_type": "Wav2Vec2FeatureExtractor"}'
    )
    return str(folder)
