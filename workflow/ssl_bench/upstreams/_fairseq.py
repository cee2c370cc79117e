"""HuBERT, wav2vec 2.0 and WavLM as s3prl carries them, as modules of transformers.

Both have the same parameters under other names, so the weights are shared, not copied.
"""

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

RENAMED = (
    (r"feature_extractor\.conv_layers\.(\d)\.0\.", r"feature_extractor.conv_layers.\1.conv."),
    (
        r"feature_extractor\.conv_layers\.(\d)\.2\.(1\.)?",
        r"feature_extractor.conv_layers.\1.layer_norm.",
    ),
    (r"^post_extract_proj\.", "feature_projection.projection."),
    (r"^layer_norm\.", "feature_projection.layer_norm."),
    (r"pos_conv\.(\d)\.0\.", r"pos_conv_embed.layers.\1.conv."),
    (r"pos_conv\.0\.weight_g", "pos_conv_embed.conv.parametrizations.weight.original0"),
    (r"pos_conv\.0\.weight_v", "pos_conv_embed.conv.parametrizations.weight.original1"),
    (r"pos_conv\.0\.", "pos_conv_embed.conv."),
    (r"self_attn_layer_norm", "layer_norm"),
    (r"self_attn\.relative_attention_bias", "attention.rel_attn_embed"),
    (r"self_attn\.grep_linear", "attention.gru_rel_pos_linear"),
    (r"self_attn\.grep_a", "attention.gru_rel_pos_const"),
    (r"self_attn\.", "attention."),
    (r"fc1\.", "feed_forward.intermediate_dense."),
    (r"fc2\.", "feed_forward.output_dense."),
    (r"^mask_emb$", "masked_spec_embed"),
)
"""Parameters of fairseq's and WavLM's modules, and what transformers calls them."""

HEADS = ("final_proj", "label_embs", "quantizer", "project_q", "_ema")
"""Parameters of pre-training alone."""

KNOWN = {
    "s3prl.upstream.hubert.hubert_model.HubertModel": "hubert",
    "s3prl.upstream.wav2vec2.wav2vec2_model.Wav2Vec2Model": "wav2vec2",
    "s3prl.upstream.wavlm.WavLM.WavLM": "wavlm",
}
"""Classes whose forward pass is that of a family of transformers."""


def renamed(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the encoder's part of s3prl's weights under transformers' names."""
    result = {}
    for name, value in weights.items():
        if name.startswith(HEADS):
            continue
        for pattern, replacement in RENAMED:
            name = re.sub(pattern, replacement, name)
        result[name] = value
    return result


def as_transformers(model: nn.Module) -> nn.Module | None:
    """Return transformers' module with the weights of an s3prl model, where there is one.

    Args:
        model: ``expert.model`` of an s3prl upstream.

    Returns:
        the module, which shares its parameters; None if its family or form is another, such as
        conformer blocks.
    """
    family = KNOWN.get(f"{type(model).__module__}.{type(model).__qualname__}")
    if family is None:
        return None
    from transformers import AutoConfig, AutoModel

    try:
        config = AutoConfig.for_model(family, **_settings(model))
        with torch.device("meta"):
            twin: nn.Module = AutoModel.from_config(config)
        twin.load_state_dict(renamed(model.state_dict()), assign=True)
    except (AttributeError, KeyError, RuntimeError):  # another part, activation or parameter
        return None
    return twin.eval()


def _settings(model: Any) -> dict[str, Any]:
    """Read what transformers' configuration says from the modules themselves."""
    layers = [parts[0] for parts in model.feature_extractor.conv_layers]
    encoder: Any = model.encoder
    position, block = encoder.pos_conv[0], encoder.layers[0]
    grouped = any(isinstance(part, nn.GroupNorm) for part in model.feature_extractor.modules())
    settings = {
        "conv_dim": [layer.out_channels for layer in layers],
        "conv_kernel": [layer.kernel_size[0] for layer in layers],
        "conv_stride": [layer.stride[0] for layer in layers],
        "conv_bias": layers[0].bias is not None,
        "feat_extract_norm": "group" if grouped else "layer",
        "hidden_size": encoder.embedding_dim,
        "num_hidden_layers": len(encoder.layers),
        "num_attention_heads": block.self_attn.num_heads,
        "intermediate_size": block.fc1.out_features,
        "do_stable_layer_norm": encoder.layer_norm_first,
        "num_conv_pos_embeddings": position.kernel_size[0],
        "num_conv_pos_embedding_groups": position.groups,
        "hidden_act": block.activation_fn.__name__,
        "layerdrop": 0.0,
    }
    if hasattr(block.self_attn, "relative_attention_bias"):
        settings["num_buckets"] = block.self_attn.num_buckets
        settings["max_bucket_distance"] = block.self_attn.max_distance
    return settings
