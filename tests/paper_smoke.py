"""Write all that config/paper_smoke.yaml names: small corpora and checkpoints in published formats.

    python tests/paper_smoke.py FOLDER

``FOLDER/corpora`` has the paper's corpora as generated speech, ``FOLDER/checkpoints`` an encoder of
each of its families and forms with random weights. What a folder holds already stays as it is.
"""

import shutil
import sys
from pathlib import Path

import published_layouts as layouts
import torch
from random_checkpoints import BASE, BIASED, LARGE, Case, write_hugging_face, write_s3prl

CHECKPOINTS = {
    # s3prl's format
    "hubert_base_ls960.pt": Case("hubert", BASE, False, layers=4, dim=24),
    "wavlm_base.pt": Case("wavlm", BASE, False, layers=4, dim=24),
    "xlsr_53_56k.pt": Case("wav2vec2", BIASED, True, layers=8, dim=36),
    # Hugging Face's
    "hubert-large-ll60k": Case("hubert", LARGE, True, layers=8, dim=36),
    "wavlm-large": Case("wavlm", LARGE, True, layers=8, dim=36),
}
"""Files and folders, and the published model that each has the family and form of."""


def corpora(folder: Path, speak: layouts.Speak = layouts.espeak) -> None:
    """Write the paper's corpora, each in the folder that it has when it is unpacked."""
    layouts.librispeech(folder / "LibriSpeech", speak=speak)
    layouts.lexicons(folder)
    layouts.iemocap(folder / "IEMOCAP", dialogs=1, speak=speak)
    layouts.fluent_speech_commands(folder / "fluent_speech_commands_dataset", speak=speak)
    # Long enough to be more than 2 s without its silence.
    layouts.voxceleb1(folder / "VoxCeleb1", dev_speakers=5, seconds=4.0, speak=speak)
    layouts.ml_superb(folder / "ml_superb", speak=speak)


def checkpoints(folder: Path) -> None:
    """Write the encoders."""
    folder.mkdir(parents=True)
    for seed, (name, case) in enumerate(CHECKPOINTS.items()):
        torch.manual_seed(seed)
        write = write_s3prl if name.endswith(".pt") else write_hugging_face
        write(case, folder / name)


def everything(folder: Path, speak: layouts.Speak = layouts.espeak) -> None:
    """Write what is not there; each part appears whole or not at all."""
    for name, write in (("corpora", lambda to: corpora(to, speak)), ("checkpoints", checkpoints)):
        place, partial = folder / name, folder / f".{name}.partial"
        if not place.is_dir():
            shutil.rmtree(partial, ignore_errors=True)
            write(partial)
            partial.rename(place)


if __name__ == "__main__":
    everything(Path(sys.argv[1]))
