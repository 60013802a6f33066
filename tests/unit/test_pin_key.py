"""The PIN key: made once, for one user's eyes, and never another than the database's."""

import asyncio
import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from gateway.pin_key import KEY_BYTES, KeyedHasher, PinKeyError, check_pin_key, load_or_create_pin_key
from gateway.store.memory import MemoryStore

KEY = bytes(range(KEY_BYTES))


def test_a_digest_is_the_same_each_time_and_another_with_another_key() -> None:
    assert KeyedHasher(KEY).digest("pin:1:4711") == KeyedHasher(KEY).digest("pin:1:4711")
    assert KeyedHasher(KEY).digest("pin:1:4711") != KeyedHasher(KEY).digest("pin:2:4711")
    assert KeyedHasher(KEY).digest("pin:1:4711") != KeyedHasher(KEY[::-1]).digest("pin:1:4711")


def test_a_digest_is_hmac_sha256() -> None:
    # As computed by `openssl dgst -sha256 -mac HMAC`.
    assert KeyedHasher(KEY).digest("4711") == "6d45b7f8862dbcd87e2aef15fc78bd09250833f403180f0aef7e64a9d3c580d9"


def test_a_hasher_shows_its_fingerprint_and_not_its_key() -> None:
    hasher = KeyedHasher(KEY)

    assert repr(hasher) == f"KeyedHasher(fingerprint={hasher.fingerprint()})"
    assert KEY.hex() not in repr(hasher)


def test_a_short_key_is_refused() -> None:
    with pytest.raises(ValueError, match="31 bytes, expected 32"):
        KeyedHasher(KEY[1:])


def test_a_key_is_made_where_there_is_none_and_kept(tmp_path: Path) -> None:
    path = tmp_path / "secrets" / "pin.key"

    made = load_or_create_pin_key(path)

    assert load_or_create_pin_key(path).fingerprint() == made.fingerprint()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert os.listdir(path.parent) == ["pin.key"]


def test_two_keys_made_are_two_keys(tmp_path: Path) -> None:
    first, second = load_or_create_pin_key(tmp_path / "a"), load_or_create_pin_key(tmp_path / "b")

    assert first.fingerprint() != second.fingerprint()


def test_starts_at_the_same_time_agree_on_one_key(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as starts:
        made = list(starts.map(lambda _: load_or_create_pin_key(tmp_path / "pin.key").fingerprint(), range(32)))

    assert len(set(made)) == 1
    assert os.listdir(tmp_path) == ["pin.key"]


@pytest.mark.parametrize("mode", [0o644, 0o604, 0o640, 0o620])
def test_a_key_that_others_may_touch_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "pin.key"
    load_or_create_pin_key(path)
    path.chmod(mode)

    with pytest.raises(PinKeyError, match=rf"pin\.key: .*mode {mode:04o}\); expected 0600; stopped: run chmod 600"):
        load_or_create_pin_key(path)


@pytest.mark.parametrize("content", ["", "abc", KEY[1:].hex(), "à" * 64, "zz" * 32])
def test_a_file_that_holds_no_key_is_refused_and_left(tmp_path: Path, content: str) -> None:
    path = tmp_path / "pin.key"
    path.touch(mode=0o600)
    path.write_text(content, encoding="utf-8")

    with pytest.raises(PinKeyError, match="this is no PIN key; expected 64 hexadecimal digits"):
        load_or_create_pin_key(path)

    assert path.read_text(encoding="utf-8") == content


def test_a_key_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(PinKeyError, match="the PIN key cannot be read or made"):
        load_or_create_pin_key(tmp_path / "file" / "pin.key")


def test_a_database_takes_the_first_key_and_stops_a_start_with_another() -> None:
    store = MemoryStore()
    first, other = KeyedHasher(KEY), KeyedHasher(KEY[::-1])
    asyncio.run(check_pin_key(store, first))

    asyncio.run(check_pin_key(store, first))
    with pytest.raises(PinKeyError, match=f"{other.fingerprint()}, the database was made with {first.fingerprint()}"):
        asyncio.run(check_pin_key(store, other))
