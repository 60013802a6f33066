"""The catalogue: what each prompt says in one language, and which clips those words are made of."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

# Every phrase of the line with its slots in the order of its words. A catalogue holds exactly these, in every language;
# a phrase whose id is an outcome's word is what the caller is told of that outcome.
PHRASES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "welcome": ("town",),
        "number-not-in-service": (),
        "enter-code": (),
        "enter-code-again": (),
        "enter-pin": (),
        "enter-pin-again": (),
        "wrong-code": (),
        "please-wait": (),
        "locked": ("time",),
        "choose-pupil": ("key", "name"),
        "choose-all": (),
        "state": ("name", "day", "presence"),
        "state-no-service": ("name",),
        "presence-present": (),
        "presence-bland": (),
        "presence-cancelled": (),
        "presence-suspended": (),
        "presence-no-service": (),
        "day-state": ("day", "presence"),
        "no-more-days": (),
        "some-pupil": (),
        "some-town": (),
        "some-school": (),
        "offer-cancel": (),
        "offer-bland": (),
        "offer-suspend": (),
        "offer-resume": (),
        "offer-undo-cancel": (),
        "offer-undo-bland": (),
        "offer-undo-suspend": (),
        "offer-undo-resume": (),
        "offer-undo": (),
        "offer-more": (),
        "offer-language": (),
        "menu-help": (),
        "offer-office": ("phone", "hours"),
        "no-office": (),
        "suspend-how": (),
        "enter-date": (),
        "enter-date-again": (),
        "date-not-valid": (),
        "resume-how": ("day",),
        "confirm-cancel": ("names", "day"),
        "confirm-bland": ("names", "day"),
        "confirm-suspend": ("names", "day"),
        "until-day": ("day",),
        "until-further-notice": (),
        "confirm-resume": ("names", "day"),
        "confirm-undo": ("names", "what", "day"),
        "undo-cancel": (),
        "undo-bland": (),
        "undo-suspend": (),
        "undo-resume": (),
        "confirm-keys": (),
        "not-changed": (),
        "for-pupil": ("name",),
        "cancelled": ("time", "receipt"),
        "bland": ("time", "receipt"),
        "suspended": ("time", "receipt"),
        "resumed": ("time", "receipt"),
        "undone": ("time", "receipt"),
        "already_cancelled": ("receipt",),
        "already_bland": ("receipt",),
        "already_suspended": (),
        "not_suspended": (),
        "nothing_to_undo": (),
        "too_late": (),
        "outside_window": ("time",),
        "no_service": (),
        "suspended_day": (),
        "cancelled_day": (),
        "too_far": ("day",),
        "bland_limit": ("number",),
        "kitchen-day": ("day",),
        "kitchen-school": ("school",),
        "kitchen-no-meals": (),
        "kitchen-meal": (),
        "kitchen-meals": ("number",),
        "kitchen-no-bland": (),
        "kitchen-bland": ("number",),
        "kitchen-one-bland": (),
        "kitchen-diet": ("number", "code"),
        "kitchen-one-diet": ("code",),
        "kitchen-special-diet": ("number",),
        "kitchen-one-special-diet": (),
        "kitchen-final": ("since",),
        "kitchen-so-far": ("time",),
        "kitchen-soon-final": (),
        "kitchen-keys": (),
        "no-key": (),
        "wrong-key": (),
        "call-too-long": (),
        "goodbye": (),
        **{f"key-{key}": () for key in range(1, 10)},
        "fallback-nothing-changed": (),
        "fallback-perhaps": (),
        "fallback-saved": (),
        "fallback-saved-all": (),
        "silence-2": (),
    }
)

SLOT = re.compile(r"\{([a-z]+)\}")


@dataclass(frozen=True, slots=True)
class Stretch:
    """Words between two slots; `clip` is empty where only punctuation stands there."""

    words: str
    clip: str


@dataclass(frozen=True, slots=True)
class SlotName:
    """The place of a slot."""

    name: str


@dataclass(frozen=True, slots=True)
class Clip:
    """One sound file: `name` relative to its language's folder, without extension, and the words it says."""

    name: str
    words: str
    language: str
    silence_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Entry:
    """One phrase of one language.

    `say` is a spelling for the voice where it would read `words` wrongly; `voice` is the language whose voice says it.
    """

    id: str
    words: str
    where: str
    voice: str
    say: str = ""
    silence_s: float = 0.0

    @property
    def parts(self) -> tuple[Stretch | SlotName, ...]:
        """The stretches and the slots in the order in which they are heard."""
        pieces = SLOT.split(self.words)
        spoken = [bool(re.search(r"\w", stretch)) for stretch in pieces[::2]]
        parts: list[Stretch | SlotName] = []
        for number, piece in enumerate(pieces):
            if number % 2:
                parts.append(SlotName(piece))
            elif spoken[number // 2] or (self.silence_s and not self.words):
                count = sum(spoken[: number // 2 + 1])
                parts.append(Stretch(piece, f"phrase/{self.id}" if len(pieces) == 1 else f"phrase/{self.id}-{count}"))
            elif piece:
                parts.append(Stretch(piece, ""))
        return tuple(parts)

    @property
    def slots(self) -> tuple[str, ...]:
        return tuple(SLOT.findall(self.words))

    @property
    def clips(self) -> tuple[Clip, ...]:
        """The clips that hold this phrase's own words."""
        said = [piece for piece in SLOT.split(self.say or self.words)[::2] if re.search(r"\w", piece)]
        if self.silence_s:
            return (Clip(f"phrase/{self.id}", "", self.voice, self.silence_s),)
        named = [part.clip for part in self.parts if isinstance(part, Stretch) and part.clip]
        return tuple(
            Clip(name, _ended(words, bool(self.slots)), self.voice) for name, words in zip(named, said, strict=True)
        )


def _ended(words: str, goes_on: bool) -> str:
    """The stretch with the mark that the voice needs: its own, or the comma of a sentence that goes on with a slot."""
    bare = words.strip(" ,.:;")
    mark = words.strip()[-1:]
    return bare + (mark if mark in {".", ":", "!", "?"} else "," if goes_on else ".")


@dataclass(frozen=True, slots=True)
class Catalogue:
    """All phrases of one language. Made with `catalogue`, which answers what is wrong with it."""

    language: str
    entries: Mapping[str, Entry]

    def __getitem__(self, phrase_id: str) -> Entry:
        return self.entries[phrase_id]

    @property
    def clips(self) -> tuple[Clip, ...]:
        """The clips of all phrases, in the order of the catalogue; days, times and digits are `spoken`'s."""
        return tuple(clip for entry in self.entries.values() for clip in entry.clips)


def catalogue(language: str, entries: Iterable[Entry]) -> Catalogue:
    """The catalogue made of these entries; ask `mistakes_in` first where they come from a file."""
    return Catalogue(language, MappingProxyType({entry.id: entry for entry in entries}))


def mistakes_in(entry: Entry) -> tuple[str, ...]:
    """What is wrong with one phrase, in words that follow its place in the file."""
    if entry.id not in PHRASES:
        return (f"unknown phrase {entry.id!r}; expected one of those in ivr/prompts.py",)
    found: list[str] = []
    if entry.slots != PHRASES[entry.id]:
        found.append(f"phrase {entry.id!r} has the slots {_braced(entry.slots)}; expected {_braced(PHRASES[entry.id])}")
    if entry.say and len(entry.parts) != 1:
        found.append(f"phrase {entry.id!r} has slots and `say`; expected `say` only where there is one clip")
    if not entry.words and not entry.silence_s:
        found.append(f"phrase {entry.id!r} has no words; expected words, or silence_s for a clip without any")
    return tuple(found)


def _braced(slots: tuple[str, ...]) -> str:
    return " ".join(f"{{{slot}}}" for slot in slots) or "none"


def missing_phrases(found: Iterable[str]) -> tuple[str, ...]:
    """The ids that a catalogue with these ids lacks."""
    present = frozenset(found)
    return tuple(phrase_id for phrase_id in PHRASES if phrase_id not in present)
