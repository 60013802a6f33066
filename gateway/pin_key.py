"""The key that PINs, codes and numbers are digested with: in a file of its own, never in the database.

Four digits are guessed in no time from a plain digest; with a key that a stolen database lacks they are not.
"""

import hashlib
import hmac
import os
import secrets
import stat
from pathlib import Path
from typing import Protocol

# As long as the digest: HMAC gains nothing from more (RFC 2104, section 3).
KEY_BYTES = 32
KEY_FILE_MODE = 0o600
# Enough to tell keys apart, and too little to be mistaken for one.
FINGERPRINT_DIGITS = 16
FINGERPRINT_SETTING = "pin_key_fingerprint"


class PinKeyError(Exception):
    """The key cannot be used: its file, or a database made with another key."""


class Settings(Protocol):
    """The part of a store that the key is checked against."""

    async def claim_setting(self, key: str, value: str) -> str: ...


class KeyedHasher:
    """HMAC-SHA256 under one key, in hexadecimal; fills `core.ports.PinHasher`."""

    def __init__(self, key: bytes) -> None:
        if len(key) < KEY_BYTES:
            raise ValueError(f"PIN key: {len(key)} bytes, expected {KEY_BYTES} at least")
        self._key = key

    def __repr__(self) -> str:
        return f"KeyedHasher(fingerprint={self.fingerprint()})"

    def digest(self, text: str) -> str:
        return hmac.digest(self._key, text.encode(), hashlib.sha256).hex()

    def fingerprint(self) -> str:
        """Tells this key from others without giving it away."""
        return self.digest("fingerprint of this key")[:FINGERPRINT_DIGITS]


def load_or_create_pin_key(path: Path) -> KeyedHasher:
    """The key in the file at `path`; where there is no file, a new key in a new one. Raises `PinKeyError`."""
    return _pin_key(path, makes=True)


def load_pin_key(path: Path) -> KeyedHasher:
    """The key in the file at `path`, for a command that writes nothing. Raises `PinKeyError`."""
    return _pin_key(path, makes=False)


def _pin_key(path: Path, *, makes: bool) -> KeyedHasher:
    try:
        if makes and not path.exists():
            _create(path)
        return KeyedHasher(_load(path))
    except OSError as error:
        raise PinKeyError(
            f"{path}: the PIN key cannot be read or made ({error.strerror}); expected a file that only this user can read; "
            "stopped, for no PIN can be checked without it"
        ) from error


async def check_pin_key(settings: Settings, hasher: KeyedHasher) -> None:
    """Stop a start with a key that is not the database's; a new database takes this one. Raises `PinKeyError`."""
    standing = await settings.claim_setting(FINGERPRINT_SETTING, hasher.fingerprint())
    if standing != hasher.fingerprint():
        raise PinKeyError(
            f"PIN key: its fingerprint is {hasher.fingerprint()}, the database was made with {standing}; expected the same key; "
            "stopped, for every PIN would be wrong: put the database's own key file back"
        )


def _load(path: Path) -> bytes:
    with path.open(encoding="ascii") as file:
        mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
        if mode & 0o077:
            raise PinKeyError(
                f"{path}: the PIN key is open to other users (mode {mode:04o}); expected {KEY_FILE_MODE:04o}; "
                f"stopped: run chmod {KEY_FILE_MODE:o} {path}, and think of a new key if somebody may have read it"
            )
        try:
            key = bytes.fromhex(file.read().strip())
        except ValueError:
            key = b""
    if len(key) < KEY_BYTES:
        raise PinKeyError(f"{path}: this is no PIN key; expected {2 * KEY_BYTES} hexadecimal digits; stopped")
    return key


def _create(path: Path) -> None:
    """Whole or not at all, also when two start at once: the first one's key is kept."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, KEY_FILE_MODE)
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(secrets.token_hex(KEY_BYTES) + "\n")
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(draft, path)
        except FileExistsError:
            return
    finally:
        draft.unlink()
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
