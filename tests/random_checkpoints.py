"""Small random encoders of the paper's families, in s3prl's checkpoint format and Hugging Face's.

A form is that of the published models: Base is post-LN with a GroupNorm in the frontend, Large
pre-LN with LayerNorms. Names of keys, files and settings are real; sizes and weights are not.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import nn

from ssl_bench.upstreams import s3prl

BASE = {"extractor_mode": "default", "layer_norm_first": False, "conv_bias": False}
LARGE = {"extractor_mode": "layer_norm", "layer_norm_first": True, "conv_bias": False}
BIASED = {**LARGE, "conv_bias": True}
"""Base and Large as they were trained; wav2vec 2.0's Large has biases, the others' have none."""
CHANNELS = 8


@dataclass(frozen=True)
class Case:
    """A family in one of its forms, with so many blocks of a width; it has a state more."""

    family: str
    form: dict
    normalize: bool
    layers: int = 3
    dim: int = 16

    def __str__(self) -> str:
        return f"{self.family}-{'pre' if self.form['layer_norm_first'] else 'post'}"


CASES = [
    Case("hubert", BASE, False),
    Case("hubert", LARGE, True),
    Case("wav2vec2", BASE, False),
    Case("wav2vec2", BIASED, True),
    Case("wavlm", BASE, False),
    Case("wavlm", LARGE, True),
    Case("data2vec", {**LARGE, "layer_norm_first": False}, True),
]
"""Every family that s3prl is compared with, in the forms that are published."""


def layout(case: Case) -> dict[str, Any]:
    """Return the keys that the four families' configurations have in common."""
    return {
        **case.form,
        "conv_feature_layers": f"[({CHANNELS},10,5)] + [({CHANNELS},3,2)] * 4"
        f" + [({CHANNELS},2,2)] * 2",
        "encoder_layers": case.layers,
        "encoder_embed_dim": case.dim,
        "encoder_ffn_embed_dim": 2 * case.dim,
        "encoder_attention_heads": 2,
        "conv_pos": 6,
        "conv_pos_groups": 2,
    }


def build(case: Case) -> tuple[nn.Module, dict[str, Any]]:
    """Return s3prl's module and the checkpoint that its loader expects, less the weights."""
    s3prl.hub()
    keys = layout(case)
    task: dict[str, Any] = {"normalize": case.normalize, "sample_rate": 16_000}
    if case.family == "wavlm":
        from s3prl.upstream.wavlm.WavLM import WavLM, WavLMConfig

        keys |= {
            "relative_position_embedding": True,
            "gru_rel_pos": True,
            "num_buckets": 32,
            "max_distance": 80,
            "normalize": case.normalize,
        }
        return WavLM(WavLMConfig(keys)), {"cfg": keys}
    if case.family == "hubert":
        from s3prl.upstream.hubert import hubert_model as module

        keys |= {"label_rate": 50.0, "final_dim": 8}
        task |= {"label_rate": 50.0}
        model = module.HubertModel(
            module.HubertConfig(**keys), module.HubertPretrainingConfig(**task), [["a", "b"]]
        )
        return model, {"model_cfg": keys, "task_cfg": task, "dictionaries_symbols": [["a", "b"]]}
    if case.family == "wav2vec2":
        from s3prl.upstream.wav2vec2 import wav2vec2_model as module

        keys |= {"quantize_targets": True, "final_dim": 8, "latent_vars": 4}
        return module.Wav2Vec2Model(module.Wav2Vec2Config(**keys)), {
            "model_cfg": keys,
            "task_cfg": task,
        }
    from s3prl.upstream.data2vec import data2vec_model as module

    keys |= {"pos_conv_depth": 5, "conv_pos": 25}
    model = module.Data2VecAudioModel(module.Data2VecAudioConfig(**keys))
    model.remove_pretraining_modules()
    return model, {"model_cfg": keys, "task_cfg": task}


def checkpoint_of(case: Case, model: nn.Module, settings: dict[str, Any]) -> dict[str, Any]:
    """Return what s3prl's loader of the family reads: :func:`build`'s settings, and weights."""
    weights = model.state_dict()
    if case.family == "wavlm":
        return {**settings, "model": weights}
    if case.family == "data2vec":
        weights = {**weights, "_ema": torch.zeros(1)}
    return {**settings, "model_weight": weights}


def twin(case: Case) -> nn.Module:
    """Return transformers' module of the same shape, with weights of its own."""
    keys = {
        "hidden_size": case.dim,
        "num_hidden_layers": case.layers,
        "num_attention_heads": 2,
        "intermediate_size": 2 * case.dim,
        "conv_dim": (CHANNELS,) * 7,
        "conv_bias": case.form["conv_bias"],
        "feat_extract_norm": "layer" if case.form["extractor_mode"] == "layer_norm" else "group",
        "do_stable_layer_norm": case.form["layer_norm_first"],
        "num_conv_pos_embeddings": 6,
        "num_conv_pos_embedding_groups": 2,
    }
    if case.family == "wavlm":
        config = transformers.WavLMConfig(**keys, num_buckets=32, max_bucket_distance=80)
        return transformers.WavLMModel(config)
    if case.family == "data2vec":
        keys |= {"num_conv_pos_embeddings": 5, "conv_pos_kernel_size": 5}
        return transformers.Data2VecAudioModel(transformers.Data2VecAudioConfig(**keys))
    if case.family == "hubert":
        return transformers.HubertModel(transformers.HubertConfig(**keys))
    return transformers.Wav2Vec2Model(transformers.Wav2Vec2Config(**keys))


def write_s3prl(case: Case, path: Path) -> Path:
    """Write a checkpoint for s3prl's ``<family>_local``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    model, settings = build(case)
    torch.save(checkpoint_of(case, model, settings), path)
    return path


def write_hugging_face(case: Case, folder: Path) -> Path:
    """Write a folder as the hub has it: settings, weights, and whether waves are normalised."""
    twin(case).save_pretrained(folder)
    extractor = {
        "do_normalize": case.normalize,
        "feature_extractor_type": "Wav2Vec2FeatureExtractor",
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(extractor))
    return folder
