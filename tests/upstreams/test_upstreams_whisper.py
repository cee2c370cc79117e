"""Whisper's encoder: states, windows, loading. Random checkpoints of a two-second window."""

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from ssl_bench.errors import StudyError
from ssl_bench.upstreams import transformers as ours
from ssl_bench.upstreams.whisper import Config, load

SAMPLES = (9_000, 32_000, 4_321, 400)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("whisper")
    torch.manual_seed(1)
    config = transformers.WhisperConfig(
        d_model=16,
        encoder_layers=3,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=32,
        decoder_ffn_dim=32,
        max_source_positions=100,
        max_target_positions=8,
        vocab_size=20,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        decoder_start_token_id=1,
    )
    model = transformers.WhisperForConditionalGeneration(config)
    for parameter in model.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    model.save_pretrained(path)
    return path


def read(folder, **keys):
    return load(Config(kind="whisper", model=str(folder), **keys))


def waves(samples=SAMPLES):
    generator = torch.Generator().manual_seed(0)
    levels = [0.01, 0.05, 0.25, 1.25]
    return [torch.randn(n, generator=generator) * levels[i % 4] for i, n in enumerate(samples)]


def test_batch_equals_one_by_one(folder):
    upstream = read(folder)
    states, lengths = upstream(waves())
    assert lengths.tolist() == [29, 100, 14, 2] == [upstream.frames(n) for n in SAMPLES]
    assert states.shape == (4, len(SAMPLES), 100, 16)
    for i, wave in enumerate(waves()):
        alone, length = upstream([wave])
        assert length == lengths[i]
        torch.testing.assert_close(states[:, i, : lengths[i]], alone[:, 0], atol=1e-5, rtol=0)
        assert not states[:, i, lengths[i] :].any()


def test_many_short_recordings_are_encoded_in_parts(folder, monkeypatch):
    upstream = read(folder)
    samples = range(400, 400 + 320 * 11, 320)
    whole, lengths = upstream(waves(samples))
    assert whole.shape[1] == 11
    monkeypatch.setattr("ssl_bench.upstreams.whisper.WINDOWS", 2)
    parts, again = upstream(waves(samples))
    assert torch.equal(lengths, again)
    torch.testing.assert_close(parts, whole, atol=1e-5, rtol=0)


def test_states_are_block_inputs_and_the_normalised_output(folder):
    """Rebuild the states from the pieces of an untouched model."""
    states, _ = read(folder)(waves()[1:2])
    model = transformers.WhisperModel.from_pretrained(folder, dtype=torch.float32).eval().encoder
    mel = transformers.WhisperFeatureExtractor(chunk_length=2)(
        waves()[1].numpy(), sampling_rate=16_000, return_tensors="pt"
    ).input_features
    with torch.no_grad():
        x = torch.nn.functional.gelu(model.conv1(mel))
        x = torch.nn.functional.gelu(model.conv2(x)).transpose(1, 2) + model.embed_positions.weight
        expected = [x]
        for layer in model.layers:
            x = layer(x, None)
            expected.append(x)
        expected[-1] = model.layer_norm(x)
    torch.testing.assert_close(states[:, 0], torch.cat(expected), atol=1e-5, rtol=1e-5)


def test_a_frame_is_twenty_milliseconds(folder):
    """A click is loudest at the first convolution's frames around it."""
    upstream = read(folder)
    quiet = torch.randn(32_000, generator=torch.Generator().manual_seed(0)) * 1e-4
    click = quiet.clone()
    click[40 * 320] = 1.0
    gap = (upstream([click])[0] - upstream([quiet])[0])[0, 0].norm(dim=-1)
    assert abs(int(gap.argmax()) - 40) <= 1
    assert upstream.stride == 320


def test_frozen_probed_and_recorded(folder):
    upstream = read(folder)
    assert upstream.probe() == (4, 16)
    assert not any(p.requires_grad for p in upstream.parameters())
    assert [path.name for path in upstream.files] == ["model.safetensors"]
    assert not any("decoder" in name for name, _ in upstream.named_parameters())


def test_untrained(folder):
    first, again = (read(folder, untrained=True, seed=3)(waves()[:1])[0] for _ in range(2))
    assert torch.equal(first, again)
    assert not torch.allclose(first, read(folder)(waves()[:1])[0])


@pytest.mark.parametrize("samples", [399, 32_001])
def test_recordings_outside_the_window(folder, samples):
    with pytest.raises(StudyError, match=rf"{samples} samples.*expected 400 to 32000 \(2 s"):
        read(folder)(waves((16_000, samples)))


def test_mistakes(folder, tmp_path):
    with pytest.raises(StudyError, match=r"'whisper', which kind 'transformers' does not read"):
        ours.load(ours.Config(kind="transformers", model=str(folder)))
    config = transformers.WhisperConfig.from_pretrained(folder)
    config.save_pretrained(tmp_path)
    weights = load_file(folder / "model.safetensors")
    weights.pop("model.encoder.layers.1.fc1.bias")
    weights["model.encoder.layers.5.fc1.bias"] = torch.zeros(32)
    weights.pop("model.decoder.layers.0.fc1.bias")  # not used
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    expected = (
        r"1 missing \('encoder.layers.1.fc1.bias'\), "
        r"1 unexpected \('model.encoder.layers.5.fc1.bias'\)$"
    )
    with pytest.raises(StudyError, match=expected):
        read(tmp_path)
