import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ssl_bench.speech import library
from ssl_bench.speech.espeak import Speech, Synthesizer, Voice

TEXTS = {"en-us": "many people live near the sea", "de": "die software ist gut", "fi": "hyvää yötä"}


def spoken(machine: Synthesizer) -> list[Speech]:
    """Every text by several voices, in turn."""
    return [
        machine.speak(
            text, Voice.random(np.random.default_rng(seed), language), rate=120 + 40 * seed
        )
        for seed in range(4)
        for language, text in TEXTS.items()
    ]


def equal(first: Speech, second: Speech) -> bool:
    return np.array_equal(first.samples, second.samples) and first[1:] == second[1:]


def test_library_that_is_kept_speaks_as_one_that_is_loaded_anew(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with Synthesizer() as machine:
        kept = spoken(machine)
        assert machine._binding._library is not None or sys.platform != "linux"
    monkeypatch.setattr(library, "_variables", lambda path: np.empty(0, np.uint64))
    with Synthesizer() as machine:
        anew = spoken(machine)
        assert machine._binding._library is None
    assert all(map(equal, kept, anew))


@pytest.mark.skipif(sys.platform != "linux", reason="variables are found on Linux")
def test_variables_are_put_back() -> None:
    with Synthesizer() as machine:
        machine.speak("yes", Voice())
        loaded = machine._binding._library
        assert loaded is not None
        shared = set(loaded._owners)
        assert 0 < len(shared) < 20
        before = loaded._variables.copy()
        loaded.espeak_SetVoiceByName(b"de")
        assert len(set(np.flatnonzero(loaded._variables != before)) - shared) > 20
        loaded.restore(loaded.espeak_Terminate)
        assert set(np.flatnonzero(loaded._variables != before)) <= shared


def test_what_went_wrong_does_not_change_the_next_text(monkeypatch: pytest.MonkeyPatch) -> None:
    with Synthesizer() as machine:
        first = machine.speak(TEXTS["en-us"], Voice())
        loaded = machine._binding._library
        if loaded is None:
            pytest.skip("loaded anew for each text")
        synthesise = loaded.espeak_Synth
        with monkeypatch.context() as patch:
            patch.setitem(loaded._functions, "espeak_Synth", lambda *a: synthesise(*a) or 1)
            with pytest.raises(RuntimeError, match=r"espeak_Synth\('hello'\): 1"):
                machine.speak("hello", Voice(flutter=20, pitch=200))
        assert equal(machine.speak(TEXTS["en-us"], Voice()), first)


def test_memory_does_not_grow() -> None:
    def pages() -> int:
        status = Path("/proc/self/statm")
        if not status.exists():
            pytest.skip("no /proc")
        return int(status.read_text().split()[1])

    with Synthesizer() as machine:
        for _ in range(20):
            machine.speak("yes", Voice())
        before = pages()
        for _ in range(200):  # of 170 kB each, were the dictionary not freed
            machine.speak("yes", Voice())
        assert (pages() - before) * resource.getpagesize() < 10e6


def test_closed_synthesizer_does_not_speak() -> None:
    machine = Synthesizer()
    machine.speak("yes", Voice())
    machine.close()
    with pytest.raises(OSError):
        machine.speak("yes", Voice())


def test_failure_to_start_is_an_error(tmp_path: Path) -> None:
    code = (
        "from pathlib import Path\n"
        "import shutil, espeakng_loader\n"
        "from ssl_bench.speech.binding import Binding\n"
        f"copy = shutil.copy(espeakng_loader.get_library_path(), {str(tmp_path)!r})\n"
        f"Binding(Path(copy), Path({str(tmp_path)!r})).speak('yes', 'en-us', {{}})\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "RuntimeError: espeak_Initialize: 0 with" in done.stderr
    assert done.returncode == 1
