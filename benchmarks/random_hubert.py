"""HuBERT with random weights in the shapes of Base and Large, as files that s3prl opens."""

import json
from pathlib import Path
from typing import Any

import torch

SHAPES: dict[str, dict[str, Any]] = {
    "base": {},
    "large": {
        "hidden_size": 1024,
        "num_hidden_layers": 24,
        "num_attention_heads": 16,
        "intermediate_size": 4096,
        "do_stable_layer_norm": True,
        "feat_extract_norm": "layer",
        "conv_bias": True,
    },
}
"""What ``transformers.HubertConfig`` is given for each shape."""
TINY: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 4,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "conv_dim": (8,) * 7,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 2,
}
"""To see a benchmark run on a CPU."""


def write(kind: str, shape: dict[str, Any], folder: Path) -> Path:
    """Write a checkpoint for an entry of ``s3prl.hub``.

    Args:
        kind: ``hf_hubert_custom`` (transformers' HuBERT: a folder with config.json,
            model.safetensors and preprocessor_config.json) or ``hubert_local`` (s3prl's own module,
            the one behind ``hubert_base``: one file).
        shape: arguments of ``transformers.HubertConfig``, such as ``SHAPES["base"]``.

    Returns:
        What the entry takes as ``ckpt``.
    """
    torch.manual_seed(0)
    folder.mkdir(parents=True, exist_ok=True)
    return {"hf_hubert_custom": _hugging_face, "hubert_local": _s3prl}[kind](shape, folder)


def _hugging_face(shape: dict[str, Any], folder: Path) -> Path:
    import transformers

    config = transformers.HubertConfig(**shape)
    transformers.HubertModel(config).save_pretrained(folder)
    extractor = {
        "do_normalize": True,
        "feature_extractor_type": "Wav2Vec2FeatureExtractor",
        "feature_size": 1,
        "padding_side": "right",
        "padding_value": 0.0,
        "return_attention_mask": config.feat_extract_norm == "layer",
        "sampling_rate": 16_000,
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(extractor))
    return folder


def _s3prl(shape: dict[str, Any], folder: Path) -> Path:
    """Translate the shape to fairseq's keys, which s3prl's converted checkpoints keep."""
    import transformers

    from ssl_bench.upstreams.s3prl import hub

    hub()
    from s3prl.upstream.hubert import hubert_model as module

    config = transformers.HubertConfig(**shape)
    convolutions = zip(config.conv_dim, config.conv_kernel, config.conv_stride, strict=True)
    keys = {
        "extractor_mode": "layer_norm" if config.feat_extract_norm == "layer" else "default",
        "layer_norm_first": config.do_stable_layer_norm,
        "conv_bias": config.conv_bias,
        "conv_feature_layers": str(list(convolutions)),
        "encoder_layers": config.num_hidden_layers,
        "encoder_embed_dim": config.hidden_size,
        "encoder_ffn_embed_dim": config.intermediate_size,
        "encoder_attention_heads": config.num_attention_heads,
        "conv_pos": config.num_conv_pos_embeddings,
        "conv_pos_groups": config.num_conv_pos_embedding_groups,
        "label_rate": 50.0,
        "final_dim": 256,
    }
    task = {"normalize": config.feat_extract_norm == "layer", "label_rate": 50.0}
    symbols = [["a", "b"]]
    model = module.HubertModel(
        module.HubertConfig(**keys), module.HubertPretrainingConfig(**task), symbols
    )
    path = folder / "hubert.pt"
    torch.save(
        {
            "model_cfg": keys,
            "task_cfg": task,
            "model_weight": model.state_dict(),
            "dictionaries_symbols": symbols,
        },
        path,
    )
    return path
