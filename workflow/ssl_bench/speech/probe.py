"""Whether speech that is made here is, byte for byte, that of the committed results."""

import hashlib
import platform
from importlib.metadata import version

from ssl_bench.speech.recipe import Recipe, utterance

SPOKEN = "cfbfa1d123278c55d9f47e7732f29ceca0e3232948edad738e8fc2e0ae2172c6"
"""SHA-256 of three utterances with everything that is done to speech, in little-endian 16 bits."""
MADE_WITH = {"espeakng-loader": "0.2.4", "numpy": "2.4.6", "scipy": "1.17.1", "soxr": "1.1.0"}
"""Versions that made them, on x86-64 and on ARM; others may, and need not, make the same."""


def spoken() -> str:
    """Return the hash of the three utterances as they are made here."""
    recipe = Recipe(
        recipe="sentences",
        languages=["en-us", "es", "cmn"],
        speakers=4,
        snr=[0.0, 15.0],
        babble=0.5,
        reverberation=1.0,
        equalisation=1.0,
        seed=7,
    )
    digest = hashlib.sha256()
    for index in range(3):
        digest.update(utterance(recipe, "train", index).samples.astype("<i2").tobytes())
    return digest.hexdigest()


def difference() -> str | None:
    """Return a line that says what is other here than where the results were made, if speech is."""
    if spoken() == SPOKEN:
        return None
    found = {name: version(name) for name in MADE_WITH}
    here = [f"{name} {found[name]} ({MADE_WITH[name]})" for name in found]
    return (
        "generated speech is not that of the committed results, so numbers may differ a little; "
        f"found (there): {', '.join(here)}, {platform.machine()} (x86_64, aarch64)"
    )
