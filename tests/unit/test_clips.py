"""The clips in the repository: every word of every language has one, and each is fit for a phone."""

import io
import wave
from pathlib import Path

import numpy as np
import pytest

from gateway.audio import (
    EDGE_S,
    LEVEL_DBFS,
    LEVEL_TOLERANCE_DB,
    PEAK_MAX_DBFS,
    PHONE_HZ,
    Audio,
    alaw_to_ulaw,
    alaw_to_wave,
    from_alaw,
    level_dbfs,
    peak_dbfs,
    to_alaw,
    to_phone,
    write_clip,
)
from gateway.files.phrases import phrases_folder, read_catalogues, read_takes
from gateway.kokoro import SENTENCE_PAUSE_S, sentences
from gateway.voice import clips_in, hours_said
from ivr.spoken import GRAMMARS, missing_clips
from sounds.derive import derive
from sounds.listen import normal
from sounds.make import Take, content_hash, manifest_file, read_manifest, takes

FOLDER = phrases_folder()
LANGUAGES = sorted(GRAMMARS)
# Slower drags, faster cannot be followed; short words have too few letters to be judged by.
LETTERS_PER_S = (8, 17)
LETTERS_MIN = 20
# What a-law makes of silence, and a little.
SILENT = 0.003


@pytest.fixture(scope="module", params=LANGUAGES)
def language(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def sounds(language: str) -> dict[str, tuple[Take, bytes]]:
    """Every clip of one language: what it should be, and its file."""
    return {
        take.clip: (take, (FOLDER / language / f"{take.clip}.alaw").read_bytes()) for take in takes(FOLDER, language)
    }


@pytest.fixture(scope="module")
def spoken(sounds: dict[str, tuple[Take, bytes]]) -> dict[str, Audio]:
    """The samples of every clip with words."""
    return {clip: from_alaw(content) for clip, (take, content) in sounds.items() if take.words}


def test_every_phrase_day_time_digit_and_number_has_a_clip(language: str) -> None:
    assert missing_clips(read_catalogues(FOLDER)[language], clips_in(FOLDER, language)) == ()


def test_every_clip_is_what_the_phrases_ask_for(language: str, sounds: dict[str, tuple[Take, bytes]]) -> None:
    manifest = read_manifest(manifest_file(FOLDER, language))

    assert {clip: entry["hash"] for clip, entry in manifest.items()} == {
        clip: take.hash for clip, (take, _) in sounds.items()
    }
    assert {clip: entry["content"] for clip, entry in manifest.items()} == {
        clip: content_hash(content) for clip, (_, content) in sounds.items()
    }


def test_no_clip_lies_there_that_no_phrase_needs(language: str, sounds: dict[str, tuple[Take, bytes]]) -> None:
    assert set(clips_in(FOLDER, language)) == set(sounds)


def test_every_clip_has_the_level_of_the_others(spoken: dict[str, Audio]) -> None:
    levels = {clip: round(level_dbfs(sound), 1) for clip, sound in spoken.items()}

    assert {clip: level for clip, level in levels.items() if abs(level - LEVEL_DBFS) > LEVEL_TOLERANCE_DB} == {}


def test_no_clip_peaks_where_the_network_would_cut_it_off(spoken: dict[str, Audio]) -> None:
    peaks = {clip: round(peak_dbfs(sound), 1) for clip, sound in spoken.items()}

    assert {clip: peak for clip, peak in peaks.items() if peak >= PEAK_MAX_DBFS} == {}


def test_every_clip_begins_and_ends_with_a_tenth_of_a_second_of_silence(spoken: dict[str, Audio]) -> None:
    edge = int(EDGE_S * PHONE_HZ)

    def noisy(sound: Audio) -> bool:
        return bool(np.abs(sound[:edge]).max() > SILENT or np.abs(sound[-edge:]).max() > SILENT)

    assert [clip for clip, sound in spoken.items() if noisy(sound)] == []


def test_no_clip_has_more_silence_at_its_ends(spoken: dict[str, Audio]) -> None:
    reach = int(2 * EDGE_S * PHONE_HZ)

    def late(sound: Audio) -> bool:
        return bool(np.abs(sound[:reach]).max() <= SILENT or np.abs(sound[-reach:]).max() <= SILENT)

    assert [clip for clip, sound in spoken.items() if late(sound)] == []


def test_sentences_are_spoken_at_a_pace_that_can_be_followed(sounds: dict[str, tuple[Take, bytes]]) -> None:
    slowest, fastest = LETTERS_PER_S

    paces: dict[str, float] = {}
    for clip, (take, content) in sounds.items():
        letters = sum(map(str.isalpha, take.words))
        pauses_s = SENTENCE_PAUSE_S * (len(list(sentences(take.words))) - 1)
        if letters >= LETTERS_MIN:
            paces[clip] = round(letters / (len(content) / PHONE_HZ - 2 * EDGE_S - pauses_s), 1)

    assert {clip: pace for clip, pace in paces.items() if not slowest <= pace <= fastest} == {}


def test_silence_is_as_long_as_its_name_says(sounds: dict[str, tuple[Take, bytes]]) -> None:
    sound = from_alaw(sounds["phrase/silence-2"][1])

    assert len(sound) == 2 * PHONE_HZ
    assert np.abs(sound).max() <= SILENT


def test_what_is_said_otherwise_is_a_clip_of_the_line(language: str, sounds: dict[str, tuple[Take, bytes]]) -> None:
    others = read_takes(FOLDER, language)

    assert {clip: sounds[clip][0].words for clip in others} == {clip: other.words for clip, other in others.items()}


def test_a_changed_word_is_a_changed_hash() -> None:
    take = next(takes(FOLDER, "it"))

    assert take.hash != Take(take.clip, f"{take.words} x", take.manner).hash


def test_all_a_law_codes_survive_decoding_and_encoding() -> None:
    codes = bytes(range(256))

    assert to_alaw(from_alaw(codes)) == codes


def test_mu_law_and_wave_hold_the_same_sound() -> None:
    codes = bytes(range(256))

    # The two loudest and the two quietest values of ITU-T G.711.
    assert alaw_to_ulaw(bytes((0x2A, 0xAA, 0x55, 0xD5))) == bytes((0x00, 0x80, 0x7E, 0xFE))
    with wave.open(io.BytesIO(alaw_to_wave(codes)), "rb") as sound:
        assert (sound.getframerate(), sound.getnchannels(), sound.getsampwidth()) == (PHONE_HZ, 1, 2)
        samples = np.frombuffer(sound.readframes(256), "<i2") / 32768
    assert np.array_equal(samples.astype(np.float32), from_alaw(codes))


def test_a_quiet_recording_with_rumble_becomes_a_clip() -> None:
    at = np.arange(24_000) / 24_000
    tone, rumble = 0.01 * np.sin(2 * np.pi * 440 * at), 0.005 * np.sin(2 * np.pi * 40 * at)
    recording = np.concatenate([np.zeros(12_000), tone + rumble, np.zeros(12_000)]).astype(np.float32)

    clip = to_phone(recording, 24_000)

    assert abs(level_dbfs(clip) - LEVEL_DBFS) <= LEVEL_TOLERANCE_DB
    assert len(clip) / PHONE_HZ == pytest.approx(1 + 2 * EDGE_S, abs=0.1)
    spectrum = np.abs(np.fft.rfft(clip[:PHONE_HZ]))
    assert spectrum[40] < spectrum[440] / 100


def test_a_recording_that_peaks_is_pressed_below_the_limit() -> None:
    clicks = np.random.default_rng(1).normal(0, 0.02, 24_000).astype(np.float32)
    clicks[::2400] = 1.0

    clip = to_phone(clicks, 24_000)

    assert peak_dbfs(from_alaw(to_alaw(clip))) < PEAK_MAX_DBFS


def test_silence_is_no_recording() -> None:
    with pytest.raises(ValueError, match="silent from end to end"):
        to_phone(np.zeros(24_000, np.float32), 24_000)


def test_a_clip_is_written_in_every_format_and_not_written_twice(tmp_path: Path) -> None:
    first = write_clip(tmp_path / "name" / "anna", b"\x55" * 800)
    again = write_clip(tmp_path / "name" / "anna", b"\x55" * 800)
    changed = write_clip(tmp_path / "name" / "anna", b"\x54" * 800)

    assert (first, again, changed) == (True, False, True)
    assert sorted(file.name for file in (tmp_path / "name").iterdir()) == ["anna.alaw", "anna.ulaw", "anna.wav"]


def test_deriving_puts_the_ready_names_into_every_language(tmp_path: Path) -> None:
    source, target = tmp_path / "sounds", tmp_path / "target"
    for clip in ("it/name/anna", "it/phrase/goodbye", "en/phrase/goodbye"):
        file = source / f"{clip}.alaw"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(clip.encode())

    written, again = derive(source, target), derive(source, target)

    assert (written, again) == (4, 0)
    assert (target / "en/name/anna.alaw").read_bytes() == b"it/name/anna"
    assert (target / "en/phrase/goodbye.alaw").read_bytes() == b"en/phrase/goodbye"


@pytest.mark.parametrize(
    ("hours", "italian", "english"),
    [
        ("lun-ven 9-12", "dal lunedì al venerdì, dalle nove alle dodici", "Monday to Friday, nine to twelve"),
        (
            "lun, mer e ven 8.30-13",
            "lunedì, mercoledì e venerdì, dalle otto e trenta alle tredici",
            "Monday, Wednesday and Friday, eight thirty to thirteen",
        ),
        ("Sabato-Domenica 1-2", "dal sabato alla domenica, dall'una alle due", "Saturday to Sunday, one to two"),
        ("marzo, su appuntamento", "marzo, su appuntamento", "marzo, su appuntamento"),
    ],
)
def test_office_hours_are_read_out_in_full(hours: str, italian: str, english: str) -> None:
    assert hours_said(hours, "it") == italian
    assert hours_said(hours, "en") == english


@pytest.mark.parametrize(
    ("language", "written", "spoken"),
    [
        ("it", "Mercoledì, 21 luglio alle 8:05", "mercoledì ventuno luglio alle otto e cinque"),
        ("it", "il 1º ottobre alle 18.00", "il primo ottobre alle diciotto"),
        ("en", "Wednesday, July 21st at 8:05pm.", "wednesday the twenty first of july at eight oh five p m"),
        ("en", "The 10 of April, canceled", "the tenth of april cancelled"),
    ],
)
def test_what_a_recogniser_writes_in_digits_is_compared_as_it_is_spoken(
    language: str, written: str, spoken: str
) -> None:
    assert normal(written, language) == spoken
