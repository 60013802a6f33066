"""Which clips a caller heard, told from the recorded sound by normalised cross-correlation.

A clip that was played scores above 0.9, also with some packets lost; another one scores below 0.2. The line is 0.8.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

Samples = npt.NDArray[np.float32]

PHONE_HZ = 8_000
SCORE_MIN = 0.8
# Below this level (16-bit samples, RMS) there is nothing to hear, and a correlation with it means nothing.
SILENCE_RMS = 30.0


def _alaw_table() -> npt.NDArray[np.float32]:
    """ITU-T G.711: even bits inverted, sign, three bits of segment, four of mantissa."""
    code = np.arange(256) ^ 0x55
    segment, mantissa = (code >> 4) & 7, code & 15
    magnitude = np.where(segment == 0, (mantissa << 4) + 8, ((mantissa << 4) + 0x108) << np.maximum(segment - 1, 0))
    return np.where(code & 0x80, magnitude, -magnitude).astype(np.float32)


_ALAW = _alaw_table()


def from_alaw(content: bytes) -> Samples:
    """16-bit sample values as floats."""
    return _ALAW[np.frombuffer(content, np.uint8)]


def to_alaw(samples: npt.NDArray[np.floating]) -> bytes:
    """The A-law byte nearest to each sample."""
    order = np.argsort(_ALAW)
    levels = _ALAW[order]
    above = np.clip(np.searchsorted(levels, samples), 1, len(levels) - 1)
    nearest = np.where(samples - levels[above - 1] < levels[above] - samples, above - 1, above)
    return order[nearest].astype(np.uint8).tobytes()


def invented_clip(name: str, seconds: float = 1.0) -> Samples:
    """A sound that no other name has: noise like speech in level, with 0.1 s of silence at both ends."""
    noise = np.random.default_rng(list(name.encode())).normal(0, 3000, int(seconds * PHONE_HZ))
    edge = PHONE_HZ // 10
    noise[:edge] = noise[-edge:] = 0
    return np.asarray(np.clip(noise, -32000, 32000), np.float32)


def load_clips(folder: Path, *patterns: str) -> dict[str, Samples]:
    """The clips under `folder` (one language) by their name for Asterisk, such as `phrase/welcome` or `digits/47`.

    `patterns` are globs below the folder without the suffix; by default all.
    """
    found = {path for pattern in patterns or ("**/*",) for path in folder.glob(f"{pattern}.alaw")}
    return {str(path.relative_to(folder).with_suffix("")): from_alaw(path.read_bytes()) for path in sorted(found)}


@dataclass(frozen=True, slots=True)
class Heard:
    """A clip that was heard: its name, when it began (seconds into the recording) and its score from 0 to 1."""

    clip: str
    at_s: float
    score: float


def correlation(recording: Samples, clip: Samples) -> Samples:
    """The normalised cross-correlation for each place at which `clip` may begin; empty when it is the longer one."""
    places = len(recording) - len(clip) + 1
    if places < 1:
        return np.zeros(0, np.float32)
    size = 1 << (len(recording) + len(clip) - 1).bit_length()
    product = np.fft.irfft(np.fft.rfft(recording, size) * np.conj(np.fft.rfft(clip, size)), size)[:places]
    energy = np.concatenate(([0.0], np.cumsum(recording.astype(np.float64) ** 2)))
    window = energy[len(clip) :] - energy[: -len(clip)]
    floor = len(clip) * SILENCE_RMS**2
    norm = np.sqrt(np.maximum(window, floor) * max(float(np.sum(clip.astype(np.float64) ** 2)), floor))
    return (product / norm).astype(np.float32)


def heard(
    recording: Samples, clips: Mapping[str, Samples], *, first_s: float | None = None, score_min: float = SCORE_MIN
) -> list[Heard]:
    """The `clips` that stand in `recording`, in the order heard. Of clips that overlap, the better match is kept.

    `first_s` compares only the beginning of each clip: what a key interrupts is heard from its beginning on, not to its end.
    """
    # The last packet of a call's last clip is not always sent.
    recording = np.concatenate((recording, np.zeros(PHONE_HZ // 10, np.float32)))
    found: list[tuple[Heard, int]] = []
    for name, whole in clips.items():
        clip = whole if first_s is None else whole[: int(first_s * PHONE_HZ)]
        scores = correlation(recording, clip).copy()
        while len(scores) and (score := float(scores[at := int(np.argmax(scores))])) >= score_min:
            found.append((Heard(name, at / PHONE_HZ, score), len(clip)))
            scores[max(0, at - len(clip) // 2) : at + len(clip) // 2 + 1] = 0
    kept: list[tuple[Heard, int]] = []
    for candidate, length in sorted(found, key=lambda each: (-each[0].score, each[0].at_s)):
        begin = candidate.at_s * PHONE_HZ
        # Clips begin and end with 0.1 s of silence, in which neighbours may overlap.
        edge = min(length, 0.1 * PHONE_HZ)
        if all(
            begin + length - edge <= other.at_s * PHONE_HZ or begin >= other.at_s * PHONE_HZ + other_length - edge
            for other, other_length in kept
        ):
            kept.append((candidate, length))
    return sorted((each for each, _ in kept), key=lambda each: each.at_s)


def heard_names(recording: Samples, clips: Mapping[str, Samples], *, first_s: float | None = None) -> list[str]:
    """The names of the clips heard, in order."""
    return [each.clip for each in heard(recording, clips, first_s=first_s)]
