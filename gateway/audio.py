"""Sound as the telephone wants it: 8 kHz, A-law, levelled, trimmed. Used when clips are made, never during a call."""

import io
import math
import os
import wave
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soxr

Audio = npt.NDArray[np.float32]

# Counts up when the steps below change what a clip sounds like: every clip is then made again.
PROCESSING = 1
PHONE_HZ = 8_000
# Telephones do not carry what lies below, and a rumbling clip loses level to it.
HIGH_PASS_HZ = 100
HIGH_PASS_TAPS = 401
# The level of Asterisk's own Italian clips, so that the two can be mixed.
LEVEL_DBFS = -18.5
LEVEL_TOLERANCE_DB = 1.5
# A sentence that is speech from end to end lies this much above; a short word between two edges of silence below.
SPEECH_LEVEL_DBFS = -17.8
QUIETEST_DBFS = LEVEL_DBFS - LEVEL_TOLERANCE_DB + 0.3
LOUDEST_DBFS = LEVEL_DBFS + LEVEL_TOLERANCE_DB - 0.3
# Gateways on the way add gain; what peaks at full scale is clipped there.
PEAK_MAX_DBFS = -1.0
PEAK_AIM = 10 ** (-1.3 / 20)
# Silence at both ends: none would glue clips together, more would make composed sentences drag.
EDGE_S = 0.1
FRAME_S = 0.01
# Frames this far below the loudest are silence, also after the noise of a synthetic voice's breath.
SILENCE_BELOW_DB = 42.0
SPEECH_BELOW_DB = 30.0


def to_phone(audio: Audio, rate_hz: int) -> Audio:
    """The sound at 8 kHz, without rumble, with 0.1 s of silence at both ends, levelled, its peaks below -1 dBFS."""
    loudest = float(np.max(np.abs(audio), initial=0.0))
    if loudest == 0.0:
        raise ValueError("the sound is silent from end to end; expected speech")
    # `if_sara` peaks above 1.0; what was clipped before resampling would rattle after it.
    sound = np.asarray(soxr.resample(audio / loudest, rate_hz, PHONE_HZ, quality="VHQ"), np.float32)
    return _limited(_trimmed(_high_passed(sound)))


def silence(seconds: float) -> Audio:
    """Nothing, for that long."""
    return np.zeros(round(seconds * PHONE_HZ), np.float32)


def _high_passed(sound: Audio) -> Audio:
    at = np.arange(HIGH_PASS_TAPS) - HIGH_PASS_TAPS // 2
    low = np.sinc(2 * HIGH_PASS_HZ / PHONE_HZ * at) * np.hamming(HIGH_PASS_TAPS)
    kernel = -low / low.sum()
    kernel[HIGH_PASS_TAPS // 2] += 1
    return np.convolve(sound, kernel, "same").astype(np.float32) if len(sound) >= HIGH_PASS_TAPS else sound


def _frame_levels(sound: Audio) -> npt.NDArray[np.float64]:
    size = int(FRAME_S * PHONE_HZ)
    padded = np.pad(sound, (0, -len(sound) % size)).astype(np.float64)
    power = np.mean(padded.reshape(-1, size) ** 2, axis=1)
    return np.asarray(10 * np.log10(power + 1e-12), np.float64)


def _trimmed(sound: Audio) -> Audio:
    levels = _frame_levels(sound)
    heard = np.flatnonzero(levels > levels.max() - SILENCE_BELOW_DB)
    size = int(FRAME_S * PHONE_HZ)
    speech = sound[heard[0] * size : (heard[-1] + 1) * size].copy()
    # A ramp of 5 ms, so that the cut is not heard as a click.
    ramp = np.linspace(0, 1, PHONE_HZ // 200, dtype=np.float32)
    speech[: len(ramp)] *= ramp
    speech[-len(ramp) :] *= ramp[::-1]
    return np.concatenate([silence(EDGE_S), speech, silence(EDGE_S)])


def _limited(sound: Audio) -> Audio:
    """Levelled by the speech in it, its peaks pressed down where the gain lifts them too far."""
    for _ in range(4):
        speech_dbfs, whole_dbfs = _speech_dbfs(sound), level_dbfs(sound)
        gain_db = SPEECH_LEVEL_DBFS - speech_dbfs
        gain_db = min(max(gain_db, QUIETEST_DBFS - whole_dbfs), LOUDEST_DBFS - whole_dbfs)
        sound = _pressed((sound * 10 ** (gain_db / 20)).astype(np.float32))
    return sound


def _speech_dbfs(sound: Audio) -> float:
    levels = _frame_levels(sound)
    speech = levels[levels > levels.max() - SPEECH_BELOW_DB]
    return float(10 * np.log10(np.mean(10 ** (speech / 10))))


def _pressed(sound: Audio) -> Audio:
    over = np.abs(sound) > PEAK_AIM
    if not over.any():
        return sound
    # 5 ms on either side: shorter is heard as a crackle, longer as breathing.
    reach = PHONE_HZ // 200
    wanted = np.minimum(1.0, PEAK_AIM / np.maximum(np.abs(sound), 1e-9))
    padded = np.pad(wanted, reach, constant_values=1.0)
    lowest = np.lib.stride_tricks.sliding_window_view(padded, 2 * reach + 1).min(axis=1)
    window = np.hanning(2 * reach + 1)
    smooth = np.convolve(np.pad(lowest, reach, mode="edge"), window / window.sum(), "valid")
    return (sound * np.minimum(smooth, wanted)).astype(np.float32)


def level_dbfs(sound: Audio) -> float:
    """The root mean square of the whole clip; 0 dBFS is a full-scale square wave."""
    return float(10 * np.log10(np.mean(sound.astype(np.float64) ** 2) + 1e-12))


def peak_dbfs(sound: Audio) -> float:
    """The largest sample."""
    return 20 * math.log10(max(float(np.max(np.abs(sound), initial=0.0)), 1e-6))


def to_alaw(sound: Audio) -> bytes:
    """G.711 A-law, one byte a sample, no header: what Asterisk reads as `.alaw`."""
    linear = np.clip(np.round(sound.astype(np.float64) * 32768), -32768, 32767).astype(np.int32)
    return bytes(_ALAW_OF[(linear + 32768) >> 4])


def from_alaw(content: bytes) -> Audio:
    """The samples that a telephone makes of `.alaw`."""
    return np.asarray(_LINEAR_OF[np.frombuffer(content, np.uint8)] / 32768, np.float32)


def _linear_of_alaw() -> npt.NDArray[np.int32]:
    """The 256 values of ITU-T G.711 table 1a, scaled to 16 bits."""
    code = np.arange(256) ^ 0x55
    exponent = (code & 0x70) >> 4
    value = ((code & 0x0F) << 4) + 8
    value = np.where(exponent > 0, (value + 0x100) << np.maximum(exponent - 1, 0), value)
    return np.where(code & 0x80, value, -value).astype(np.int32)


def _alaw_of_linear() -> npt.NDArray[np.uint8]:
    """For each 16-bit sample, 16 at a time, the code whose value lies nearest."""
    order = np.argsort(_LINEAR_OF)
    middles = (_LINEAR_OF[order][1:] + _LINEAR_OF[order][:-1]) / 2
    samples = (np.arange(4096) << 4) - 32768 + 8
    return order[np.searchsorted(middles, samples)].astype(np.uint8)


def _ulaw_of(sample: int) -> int:
    """The mu-law code of one 16-bit sample (ITU-T G.711, table 2a)."""
    magnitude = min(abs(sample) >> 2, 8158) + 33
    exponent = magnitude.bit_length() - 6
    return ~((0x80 if sample < 0 else 0) | exponent << 4 | (magnitude >> (exponent + 1)) & 0x0F) & 0xFF


_LINEAR_OF = _linear_of_alaw()
_ALAW_OF = _alaw_of_linear()
_ULAW_OF_ALAW = bytes(_ulaw_of(int(sample)) for sample in _LINEAR_OF)


def alaw_to_ulaw(content: bytes) -> bytes:
    """The same clip in mu-law."""
    return content.translate(_ULAW_OF_ALAW)


def alaw_to_wave(content: bytes) -> bytes:
    """The same clip as a wave file: 8 kHz, 16 bits, mono."""
    file = io.BytesIO()
    with wave.open(file, "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(PHONE_HZ)
        sound.writeframes(_LINEAR_OF[np.frombuffer(content, np.uint8)].astype("<i2").tobytes())
    return file.getvalue()


def write_clip(place: Path, alaw: bytes) -> bool:
    """Put the clip at `place` (without extension) in every format Asterisk plays; False when it is there already.

    Each file is there whole or not at all: a call may be playing the one before.
    """
    formats = {suffix: place.with_name(f"{place.name}.{suffix}") for suffix in ("wav", "ulaw", "alaw")}
    if all(file.exists() for file in formats.values()) and formats["alaw"].read_bytes() == alaw:
        return False
    place.parent.mkdir(parents=True, exist_ok=True)
    # A-law comes last: where it is there and the same, so are the others.
    for suffix, content in (("wav", alaw_to_wave(alaw)), ("ulaw", alaw_to_ulaw(alaw)), ("alaw", alaw)):
        partial = place.with_name(f".{place.name}.{suffix}.{os.getpid()}")
        try:
            partial.write_bytes(content)
            partial.replace(formats[suffix])
        finally:
            partial.unlink(missing_ok=True)
    return True


def read_wave(path: Path) -> tuple[Audio, int]:
    """A 16-bit mono wave file as floats, and its rate in Hz."""
    with wave.open(str(path), "rb") as file:
        if file.getsampwidth() != 2 or file.getnchannels() != 1:
            raise ValueError(
                f"{path}: {file.getnchannels()} channels of {file.getsampwidth()} bytes; expected mono, 16 bits"
            )
        samples = np.frombuffer(file.readframes(file.getnframes()), "<i2")
        return np.asarray(samples / 32768, np.float32), file.getframerate()
