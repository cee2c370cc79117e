"""Recordings of any rate and layout become the same mono 16 kHz samples, or one clear line."""

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from ssl_bench import audio
from ssl_bench.errors import StudyError


def reference(seconds, hertz=440.0):
    return 0.5 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * 16_000)) / 16_000)


@pytest.mark.parametrize("rate", [8_000, 16_000, 22_050, 44_100, 48_000])
@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg"])
def test_any_rate_gives_the_same_tone_at_16_khz(tmp_path, tone, rate, suffix):
    samples = audio.load(tone(tmp_path / f"a.{suffix}", seconds=0.5, rate=rate))
    assert samples.dtype == np.float32
    assert samples.shape == (8_000,)
    inner = slice(400, -400)  # the filter rings at the edges
    assert np.abs(samples[inner] - reference(0.5)[inner]).max() < 0.02


def test_what_is_above_8_khz_does_not_fold_down(tmp_path, tone):
    samples = audio.load(tone(tmp_path / "high.wav", rate=48_000, hertz=15_000))
    assert np.abs(samples[400:-400]).max() < 1e-3


def test_channels_are_averaged(tmp_path):
    left = reference(0.2)
    soundfile.write(tmp_path / "s.wav", np.stack([left, 0 * left], axis=1), 16_000, "FLOAT")
    np.testing.assert_allclose(audio.load(tmp_path / "s.wav"), left / 2, atol=1e-6)


def test_16_bit_samples_are_kept_exactly(tmp_path):
    values = np.random.default_rng(0).integers(-32768, 32767, 1600).astype(np.int16)
    soundfile.write(tmp_path / "n.flac", values, 16_000)
    assert (np.round(audio.load(tmp_path / "n.flac") * 32768) == values).all()


def test_names_with_spaces_and_other_scripts(tmp_path, tone):
    assert len(audio.load(str(tone(tmp_path / "مجلد ö" / "één – 录音.wav")))) == 16_000


@settings(max_examples=25, deadline=None)
@given(rate=st.integers(8_000, 96_000), milliseconds=st.integers(25, 200))
def test_the_length_follows_the_rate(tmp_path_factory, rate, milliseconds):
    frames = -(-rate * milliseconds // 1000)
    path = tmp_path_factory.mktemp("length") / "x.wav"
    soundfile.write(path, np.full(frames, 0.1), rate)
    found = len(audio.load(path))
    assert found >= audio.SHORTEST
    assert abs(found - frames * 16_000 / rate) <= 1


def write(path, samples, rate=16_000):
    soundfile.write(path, samples, rate, subtype="FLOAT")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (np.zeros(0), "empty recording (0 samples)"),
        (np.zeros(399), "24.9 ms is too short, expected at least 25 ms (400 samples at 16 kHz)"),
        (np.full(800, np.nan), "expected finite samples, found NaN or infinity"),
        (np.full(800, np.inf), "expected finite samples, found NaN or infinity"),
        (b"RIFF this is no wave file", "not readable as audio"),
        (b"", "not readable as audio"),
        (None, "no such recording"),
    ],
)
def test_a_recording_that_cannot_be_used_is_one_line(tmp_path, content, expected):
    path = tmp_path / "bad.wav"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        write(path, content)
    with pytest.raises(StudyError) as raised:
        audio.load(path)
    assert str(raised.value).startswith(str(path))
    assert expected in str(raised.value)
    assert "\n" not in str(raised.value)


def test_400_samples_are_enough(tmp_path):
    write(tmp_path / "short.wav", np.zeros(400))
    assert audio.load(tmp_path / "short.wav").shape == (400,)


def test_a_truncated_file_is_told(tmp_path):
    noise = np.random.default_rng(0).normal(0, 0.1, 32_000)
    soundfile.write(tmp_path / "whole.flac", noise, 16_000)
    data = (tmp_path / "whole.flac").read_bytes()
    (tmp_path / "cut.flac").write_bytes(data[: len(data) // 2])
    with pytest.raises(StudyError, match=r"truncated|not readable"):
        audio.load(tmp_path / "cut.flac")


@pytest.mark.parametrize("subtype", ["PCM_16", "FLOAT"])
def test_a_truncated_wave_is_told_by_its_header_and_when_it_is_read(tmp_path, subtype):
    path = tmp_path / "cut.wav"
    soundfile.write(path, np.zeros(32_000), 16_000, subtype=subtype)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    expected = f"truncated: {len(whole):,} bytes expected, {len(whole) // 2:,} found"
    for read in (audio.header, audio.load):
        with pytest.raises(StudyError) as raised:
            read(path)
        assert str(raised.value) == f"{path}: {expected}"


@pytest.mark.parametrize("said", [0, 32_036 + 44, 0x7FFFF024, 0xFFFFFFFF])
def test_a_wave_whose_length_was_not_known_is_read_to_its_end(tmp_path, said):
    path = tmp_path / "piped.wav"
    soundfile.write(path, np.zeros(16_000), 16_000, subtype="PCM_16")
    written = path.read_bytes()
    path.write_bytes(written[:4] + said.to_bytes(4, "little") + written[8:])
    assert audio.header(path).frames == len(audio.load(path)) == 16_000


def test_check_tells_all_at_once(tmp_path, tone):
    good = tone(tmp_path / "good.wav")
    bad = [tmp_path / f"missing{number}.wav" for number in range(5)]
    with pytest.raises(StudyError) as raised:
        audio.check([good, *bad])
    line = str(raised.value)
    assert line.startswith("5 of 6 recordings cannot be used: ")
    assert "missing2.wav" in line
    assert "missing3.wav" not in line
    audio.check([good])


@pytest.fixture
def cut(tmp_path):
    """Four seconds, two channels: a constant that counts the seconds, and its opposite."""
    from lhotse import Recording

    steps = np.repeat([0.1, 0.2, 0.3, 0.4], 16_000)
    write(tmp_path / "steps.wav", np.stack([steps, -steps / 2], axis=1))
    return Recording.from_file(tmp_path / "steps.wav").to_cut()


def test_a_cut_keeps_to_its_offset_and_duration(cut):
    part = audio.load(cut.truncate(offset=1.5, duration=1.0))
    np.testing.assert_allclose(part, np.repeat([0.05, 0.075], 8_000), atol=1e-6)


def test_a_cut_keeps_to_its_channel(cut):
    from lhotse import MonoCut

    mono = MonoCut("m", 2.0, 0.5, channel=1, recording=cut.recording)
    np.testing.assert_allclose(audio.load(mono), np.full(8_000, -0.15), atol=1e-6)


def test_a_mixed_cut_reads_as_lhotse_reads_it(cut):
    from lhotse import MonoCut

    mono = MonoCut("m", 0.0, 2.0, channel=0, recording=cut.recording)
    padded = mono.pad(duration=3.0)
    np.testing.assert_allclose(audio.load(padded), padded.load_audio()[0], atol=1e-6)


def test_a_transformed_cut_reads_as_lhotse_reads_it(cut):
    from lhotse import MonoCut

    louder = MonoCut("m", 0.0, 2.0, channel=0, recording=cut.recording).perturb_volume(2.0)
    np.testing.assert_allclose(audio.load(louder), louder.load_audio()[0], atol=1e-6)
    assert audio.load(louder).max() > 0.3


def test_a_cut_beyond_the_end_is_told(cut):
    from lhotse import MonoCut

    longer = MonoCut("late", 3.5, 2.0, channel=0, recording=cut.recording)
    with pytest.raises(StudyError, match="truncated: 32000 samples expected, 8000 found"):
        audio.load(longer)
    after = MonoCut("after", 5.0, 2.0, channel=0, recording=cut.recording)
    with pytest.raises(StudyError, match="found a cut from 5 s, expected one within 4 s"):
        audio.load(after)
    absent = MonoCut("third", 0.0, 1.0, channel=2, recording=cut.recording)
    with pytest.raises(StudyError, match=r"wants channels \[2\], found 2"):
        audio.load(absent)
