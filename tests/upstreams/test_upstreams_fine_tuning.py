"""What fine-tuning knows of every encoder, whatever its checkpoint says of LayerDrop and masks."""

import json
from dataclasses import dataclass
from types import ModuleType

import pytest
import torch
import transformers
from torch import nn

from ssl_bench import registry
from ssl_bench.errors import StudyError
from ssl_bench.fine_tuning import Encoder, Tuned, Utterances
from ssl_bench.recipe import FineTune
from ssl_bench.runs import Joined
from ssl_bench.upstreams import s3prl, whisper
from ssl_bench.upstreams import transformers as ours

TINY = {
    "hidden_size": 16,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "conv_dim": (8,) * 7,
    "num_conv_pos_embeddings": 5,
    "num_conv_pos_embedding_groups": 2,
    # Whatever a checkpoint may ask for in training; with so many masks nothing would be left.
    "layerdrop": 0.9,
    "mask_time_prob": 0.9,
    "mask_time_length": 2,
    "mask_feature_prob": 0.9,
    "mask_feature_length": 2,
    "feat_proj_dropout": 0.9,
}
LARGE = {"feat_extract_norm": "layer", "do_stable_layer_norm": True}
SAMPLES = (9000, 16000, 4321)


@dataclass(frozen=True)
class Case:
    """A kind, and how a tiny random encoder of it is made."""

    kind: ModuleType
    model: str
    keys: dict


CASES = {
    "hubert": Case(ours, "Hubert", TINY),
    "hubert large": Case(ours, "Hubert", TINY | LARGE),
    "wav2vec2 large": Case(ours, "Wav2Vec2", TINY | LARGE),
    "wavlm": Case(ours, "WavLM", TINY),
    "wavlm large": Case(ours, "WavLM", TINY | LARGE),
    "data2vec": Case(ours, "Data2VecAudio", TINY | {"conv_pos_kernel_size": 5}),
    "s3prl's copy of hubert": Case(s3prl, "Hubert", TINY),
    "whisper": Case(
        whisper,
        "Whisper",
        {
            "d_model": 16,
            "encoder_layers": 3,
            "decoder_layers": 1,
            "encoder_attention_heads": 2,
            "decoder_attention_heads": 2,
            "encoder_ffn_dim": 32,
            "decoder_ffn_dim": 32,
            "max_source_positions": 100,
            "max_target_positions": 8,
            "vocab_size": 20,
            "pad_token_id": 0,
            "bos_token_id": 1,
            "eos_token_id": 2,
            "decoder_start_token_id": 1,
            "encoder_layerdrop": 0.9,
            "dropout": 0.1,
        },
    ),
}


def waves():
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(n, generator=generator) * 0.1 for n in SAMPLES]


class Nothing(nn.Module):
    """An interface and a head that leave what they are given."""

    def forward(self, states, lengths):
        return states


@pytest.fixture(scope="module", params=CASES)
def case(request, tmp_path_factory):
    """A case and the configuration that loads its encoder."""
    made, folder = CASES[request.param], tmp_path_factory.mktemp("encoder")
    torch.manual_seed(1)
    config = getattr(transformers, f"{made.model}Config")(**made.keys)
    getattr(transformers, f"{made.model}Model")(config).save_pretrained(folder)
    if made.kind is not whisper:
        settings = {"do_normalize": True, "feature_extractor_type": "Wav2Vec2FeatureExtractor"}
        (folder / "preprocessor_config.json").write_text(json.dumps(settings))
    if made.kind is s3prl:
        return made, s3prl.Config(kind="s3prl", name="hf_hubert_custom", path=str(folder))
    kind = made.kind.__name__.rsplit(".", 1)[-1]
    return made, made.kind.Config(kind=kind, model=str(folder))


def tuned(case, **settings) -> Tuned:
    made, config = case
    upstream = made.kind.load(config)
    encoder = Encoder(
        upstream, made.kind.parts(upstream), FineTune(learning_rate=1e-5, **settings), False
    )
    return Tuned(Joined(Nothing(), Nothing()), encoder)


def states(module: Tuned):
    frames = [module.encoder.frames(n) for n in SAMPLES]
    batch = Utterances(waves(), max(frames), None, None)
    return module.states(batch, torch.tensor(frames))


def test_training_encodes_as_evaluation_does_but_for_dropout(case):
    frozen = case[0].kind.load(case[1])
    expected, _ = frozen(waves())
    module = tuned(case, dropout=False)
    torch.testing.assert_close(states(module.train()), expected, rtol=0, atol=1e-6)
    module = tuned(case, dropout=True)
    noisy = states(module.train())
    assert torch.allclose(noisy[0], expected[0], atol=1e-6)  # what the first block is given
    assert not torch.allclose(noisy[-1], expected[-1], atol=1e-3)
    torch.testing.assert_close(states(module.eval()), expected, rtol=0, atol=1e-6)


def test_input_dropout_acts_before_the_first_block_and_brings_neither_masks_nor_layerdrop(case):
    frozen = case[0].kind.load(case[1])
    expected, _ = frozen(waves())
    module = tuned(case, input_dropout=True)
    assert module.train()._ahead
    first, again = states(module)[0], states(module)[0]
    assert not torch.allclose(first, expected[0], atol=1e-3)
    assert not torch.allclose(first, again, atol=1e-3)
    torch.testing.assert_close(states(module.eval()), expected, rtol=0, atol=1e-6)
    for part in module.encoder.modules():  # drops nothing, but is in training mode
        for name in ("p", "dropout", "activation_dropout", "attention_dropout"):
            if isinstance(getattr(part, name, None), float):
                setattr(part, name, 0.0)
    torch.testing.assert_close(states(module.train()), expected, rtol=0, atol=1e-6)


def test_checkpointing_changes_no_gradient(case):
    gradients = []
    for checkpointing in (True, False):
        module = tuned(case, freeze_convolutions=False, checkpointing=checkpointing)
        torch.manual_seed(3)
        states(module.train()).square().sum().backward()
        gradients.append({name: p.grad for name, p in module.named_parameters() if p.requires_grad})
    for name, gradient in gradients[1].items():
        torch.testing.assert_close(gradients[0][name], gradient, rtol=1e-4, atol=1e-5)


def test_blocks_learn_and_convolutions_may(case):
    module = tuned(case)
    upstream = module.encoder
    parts = case[0].kind.parts(upstream)
    assert len(parts.blocks) == 3
    for block in parts.blocks:
        assert all(p.requires_grad for p in block.parameters())
    convolutions = [p for part in parts.convolutions for p in part.parameters()]
    assert convolutions
    assert not any(p.requires_grad for p in convolutions)
    free = tuned(case, freeze_convolutions=False)
    parts = case[0].kind.parts(free.encoder)
    convolutions = [p for part in parts.convolutions for p in part.parameters()]
    assert all(p.requires_grad for p in convolutions)
    assert not any(p.requires_grad for part in parts.constant for p in part.parameters())


def test_kinds_that_can_be_fine_tuned():
    able = {
        name
        for name in registry.kinds("upstreams")
        if hasattr(registry.load("upstreams", name), "parts")
    }
    assert able == {"s3prl", "transformers", "whisper"}


def test_an_s3prl_upstream_of_another_build():
    upstream = s3prl.load(s3prl.Config(kind="s3prl", name="fbank"))
    with pytest.raises(StudyError, match=r"'fbank' cannot be fine-tuned: expected .* HuBERT"):
        s3prl.parts(upstream)
