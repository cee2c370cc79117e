"""How many frames an utterance has alone, and which: ``frames`` beside s3prl's two wrappers.

ESPnet reads through ``s3prl.nn.S3PRLUpstream``, s3prl's runner through ``Featurizer.tolist``. What
padding does to the frames of a batch is another matter (``test_parity_states.py``).
"""

from importlib import import_module
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from random_checkpoints import BASE, BIASED, LARGE, Case, write_s3prl

from ssl_bench.encoding import frames_of, waveforms
from ssl_bench.errors import StudyError
from ssl_bench.features import Features, fill
from ssl_bench.fine_tuning import Encoder, Tuned, Utterances
from ssl_bench.lengths import counted
from ssl_bench.recipe import FineTune
from ssl_bench.upstreams import fbank, s3prl

CPU = torch.device("cpu")
FEWER = [Case("hubert", BASE, False), Case("wavlm", LARGE, True), Case("wav2vec2", BIASED, True)]
"""Their last window ends within the recording, so that they have a frame less than ⌈n / 320⌉."""
PLAIN = ("fbank", "mel")
"""s3prl's filterbanks, a frame every 160 samples: two fewer than ⌈n / 160⌉, and up to one more."""
SAMPLES = [800, 960] + [
    n + near
    for n in (*range(1280, 2240, 320), *range(1200, 2400, 400), 16_000)
    for near in (-1, 0, 1, 79, 80, 81)
]
"""Around multiples of both strides and of the first window, and where a window more fits in."""
STOPPED = (961, 1000, 1039)
"""Where s3prl.nn stops: two frames are half of the four that it wants."""


every_one = pytest.mark.parametrize("case", [*FEWER, *PLAIN], ids=str)
trainable = pytest.mark.parametrize("case", FEWER, ids=str)


@pytest.fixture(scope="module")
def called(tmp_path_factory):
    """Return a function from a case to the name and the path that s3prl loads it by."""
    paths = {}

    def call(case) -> tuple[str, str | None]:
        if case in PLAIN:
            return case, None
        if case.family not in paths:
            torch.manual_seed(2)
            folder = tmp_path_factory.mktemp("encoder")
            paths[case.family] = str(write_s3prl(case, folder / "checkpoint.pt"))
        return f"{case.family}_local", paths[case.family]

    return call


def our(name: str, path: str | None) -> s3prl.S3PRLUpstream:
    return s3prl.load(s3prl.Config(kind="s3prl", name=name, path=path))


def s3prl_nn(name: str, path: str | None) -> torch.nn.Module:
    s3prl.hub()
    return import_module("s3prl.nn.upstream").S3PRLUpstream(name, path).eval()


def recordings(samples=SAMPLES) -> SimpleNamespace:
    """A corpus of noise, as far as it is read."""
    rng = np.random.default_rng(0)
    waves = [rng.normal(0, 3000, n).astype(np.int16) for n in samples]
    names = [f"{place}-{n}" for place, n in enumerate(samples)]
    table = pd.DataFrame({"id": names, "samples": list(map(len, waves))})
    return SimpleNamespace(table=table, waveform=waves.__getitem__)


def stream(encoder, data, frames: str) -> Features:
    """The states of a corpus, in memory."""
    rows, kept = np.arange(len(data.table)), frames_of(encoder, data)
    flat, starts = fill(encoder, data, rows, kept, CPU, False, torch.float32, quiet=True)
    size = (flat.shape[1], flat.shape[2], encoder.stride)
    made = Features(*size, kept, CPU, starts, flat, None, dtype=torch.float32)
    return counted(made, data.table, frames)


def close(found, expected) -> None:
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-5)


@every_one
def test_ceil_is_s3prl_nns_stream(called, case):
    ours, theirs = our(*called(case)), s3prl_nn(*called(case))
    data = recordings()
    made = stream(ours, data, "ceil")
    every = np.arange(len(SAMPLES))
    states, lengths = made.batch(every, int(made.frames.max()) + 2)
    assert theirs.downsample_rates == [ours.stride] * len(states)
    differing = 0
    for row, wave in enumerate(waveforms(data, every, CPU)):
        with torch.no_grad():
            expected, counts = theirs(wave[None], torch.tensor([len(wave)]))
        assert {int(count) for count in counts} == {int(lengths[row])}
        close(states[:, row, : lengths[row]], torch.stack(expected)[:, 0])
        assert not states[:, row, lengths[row] :].any()
        differing += int(lengths[row] != ours.frames(len(wave)))
    assert differing > 5


@trainable
def test_a_fine_tuned_encoder_has_s3prl_nns_states_and_gradients(called, case):
    loaded, theirs, data = our(*called(case)), s3prl_nn(*called(case)), recordings()
    settings = FineTune(learning_rate=1e-5, freeze_convolutions=False, dropout=False)
    tuned = Encoder(loaded, s3prl.parts(loaded), settings, normalize=False)
    model = Tuned(SimpleNamespace(interface=torch.nn.Identity(), head=torch.nn.Identity()), tuned)
    rows = np.array([0, 5, 9, 14, 29])
    lengths = torch.tensor([-(-SAMPLES[row] // 320) for row in rows])
    waves, width = waveforms(data, rows, CPU), int(lengths.max())
    states = model.states(Utterances(waves, width, None, None, repeated=True), lengths)
    told = torch.randn(states.shape, generator=torch.Generator().manual_seed(3))
    (states * told).sum().backward()
    theirs.upstream.model.feature_grad_mult = 1.0
    for place, wave in enumerate(waves):
        expected, counts = theirs(wave[None], torch.tensor([len(wave)]))
        expected = torch.stack(expected)[:, 0]
        assert int(counts[0]) == lengths[place]
        close(states[:, place, : lengths[place]], expected)
        assert not states[:, place, lengths[place] :].any()
        (expected * told[:, place, : lengths[place]]).sum().backward()
    known = dict(theirs.upstream.named_parameters())
    trained = [(n, p) for n, p in loaded.expert.named_parameters() if p.grad is not None]
    assert len(trained) > 50
    for parameter, value in trained:
        allowed = 1e-4 * max(1.0, value.grad.abs().max().item())
        torch.testing.assert_close(
            value.grad, known[parameter].grad, atol=allowed, rtol=0, msg=parameter
        )


@every_one
def test_the_encoders_own_frames_are_what_s3prls_runner_keeps(called, case):
    """It keeps round(n / stride) of what is there: of one utterance alone, all that encoders have.

    Of a filterbank whose last window is centred on the recording's end it cuts that one off.
    """
    ours = our(*called(case))
    featurizer = import_module("s3prl.upstream.interfaces").Featurizer(
        ours.expert, upstream_device="cpu"
    )
    data = recordings()
    every = np.arange(len(SAMPLES))
    states, lengths = stream(ours, data, "encoder").batch(every, 120)
    for row, wave in enumerate(waveforms(data, every, CPU)):
        with torch.no_grad():
            (kept,) = featurizer([wave], ours.expert([wave]))
        cut = int(lengths[row]) - len(kept)
        assert cut == 0 or (case == "mel" and cut == 1)
        mean = states[:, row, : len(kept)].mean(0)  # its weights begin equal
        close(mean, kept)


def test_our_filterbank_counts_as_s3prls():
    ours, theirs = fbank.load(fbank.Config(kind="fbank", hop_ms=10)), our("fbank", None)
    assert [ours.frames(n) for n in SAMPLES] == [theirs.frames(n) for n in SAMPLES]


@trainable
def test_where_s3prl_nn_stops_the_last_frame_is_repeated_all_the_same(called, case):
    ours, theirs = our(*called(case)), s3prl_nn(*called(case))
    data = recordings(STOPPED)
    states, lengths = stream(ours, data, "ceil").batch(np.arange(3), 4)
    assert lengths.tolist() == [4, 4, 4]
    assert torch.equal(states[:, :, 1:2].expand(-1, -1, 2, -1), states[:, :, 2:])
    for wave in waveforms(data, np.arange(3), CPU):
        with pytest.raises(AssertionError), torch.no_grad():
            theirs(wave[None], torch.tensor([len(wave)]))


def test_an_encoder_of_another_stride_is_told(called):
    ours = our(*called(FEWER[0]))
    data = recordings([1600])
    made = Features(1, 1, 80, frames_of(ours, data), CPU, torch.empty(0), None, None)
    found = f"found {ours.frames(1600)} frames of '0-1600' .* expected 20 or up to 4 more or fewer"
    with pytest.raises(StudyError, match=found):
        counted(made, data.table, "ceil")
    assert counted(made, data.table, "encoder") is made
