"""Prompts as words and as clips: dates, times, receipts, numbers and names in each language.

`words` is what a terminal prints, `clips` what Asterisk plays; the tests hold the two together. What a clip itself says
(`quattro, sette`) stands here too, so that `make sounds` and the call cannot disagree.
"""

import hashlib
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date, time
from string import ascii_lowercase
from types import MappingProxyType

from ivr.line import (
    FirstName,
    FirstNames,
    Phrase,
    Prompt,
    SchoolName,
    Slot,
    SpokenCode,
    SpokenDay,
    SpokenDigits,
    SpokenNumber,
    SpokenPhone,
    SpokenSince,
    SpokenTime,
    SpokenWords,
    TownName,
)
from ivr.prompts import Catalogue, Clip, Stretch

# Numbers up to here have a clip of their own; above, thousands, hundreds and the rest are clips one after the other.
NUMBER_CLIPS_MAX = 200
# More meals than any town's kitchens cook in a day.
NUMBER_MAX = 999_999
# A longer code is a word, and nobody writes down a word that is spelled.
CODE_CHARACTERS_MAX = 4
# A file name may have 255 bytes; readable names of people and towns are far shorter.
SLUG_CHARACTERS_MAX = 80

ITALIAN_BELOW_20 = (
    "zero uno due tre quattro cinque sei sette otto nove dieci undici dodici tredici quattordici quindici sedici "
    "diciassette diciotto diciannove"
)
ITALIAN_TENS = "- - venti trenta quaranta cinquanta sessanta settanta ottanta novanta"
ENGLISH_BELOW_20 = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
    "seventeen eighteen nineteen"
)
ENGLISH_TENS = "- - twenty thirty forty fifty sixty seventy eighty ninety"

# As Italians spell on the telephone: the names of b, c, d, g, p, t and v alone are not told apart, and a wrong diet does harm.
ITALIAN_LETTERS = (
    "a, come Ancona|bi, come Bologna|ci, come Catania|di, come Domodossola|e, come Empoli|effe, come Firenze|"
    "gi, come Genova|acca, come hotel|i, come Imola|i lunga, come jolly|cappa, come koala|elle, come Livorno|"
    "emme, come Milano|enne, come Napoli|o, come Otranto|pi, come Palermo|cu, come quaderno|erre, come Roma|"
    "esse, come Savona|ti, come Taranto|u, come uva|vu, come Venezia|doppia vu, come Washington|ics, come xilofono|"
    "ipsilon, come yogurt|zeta, come zebra"
)
ENGLISH_LETTERS = (
    "Alpha Bravo Charlie Delta Echo Foxtrot Golf Hotel India Juliet Kilo Lima Mike November Oscar Papa Quebec Romeo "
    "Sierra Tango Uniform Victor Whiskey X-ray Yankee Zulu"
)

HasClip = Callable[[str], bool]


def always(clip: str) -> bool:
    """Whether a clip can be played, where nobody has looked: yes."""
    return True


@dataclass(frozen=True, slots=True)
class Grammar:
    """How one language says what is composed; `said` is for the voice, `written` for the eye."""

    weekdays: tuple[str, ...]
    months: tuple[str, ...]
    number: Callable[[int], str]
    day_said: Callable[[int, str], str]
    day_written: Callable[[int, str], str]
    time_written: Callable[[time], str]
    time_clips: Callable[[time], tuple[str, ...]]
    clips_of_times: Callable[[], Iterator[tuple[str, str]]]
    since_written: Callable[[time], str]
    since_clips: Callable[[time], tuple[str, ...]]
    # In the order of the alphabet.
    letters: tuple[str, ...]
    thousand: str
    thousands: str


def _italian_number(value: int) -> str:
    low, tens = ITALIAN_BELOW_20.split(), ITALIAN_TENS.split()
    if value < 20:
        return low[value]
    if value < 100:
        ten, unit = tens[value // 10], value % 10
        if unit == 0:
            return ten
        # Ventuno, ventotto: the vowel of the ten is dropped. Ventitré: the three is stressed at the end.
        stem = ten[:-1] if unit in {1, 8} else ten
        return stem + ("tré" if unit == 3 else low[unit])
    if value >= 1000:
        thousands, rest = divmod(value, 1000)
        # Ventitremila: the stress has moved on, and the accent goes with it.
        head = "mille" if thousands == 1 else f"{_italian_number(thousands).replace('é', 'e')}mila"
        return head + ("" if not rest else "tré" if rest == 3 else _italian_number(rest))
    hundreds, rest = divmod(value, 100)
    head = ("" if hundreds == 1 else low[hundreds]) + "cento"
    if rest == 0:
        return head
    return head + ("tré" if rest == 3 else _italian_number(rest))


def _english_number(value: int) -> str:
    low, tens = ENGLISH_BELOW_20.split(), ENGLISH_TENS.split()
    if value < 20:
        return low[value]
    if value < 100:
        return tens[value // 10] + (f"-{low[value % 10]}" if value % 10 else "")
    if value >= 1000:
        thousands, rest = divmod(value, 1000)
        joint = " and " if rest < 100 else " "
        return f"{_english_number(thousands)} thousand" + (joint + _english_number(rest) if rest else "")
    hundreds, rest = divmod(value, 100)
    return f"{low[hundreds]} hundred" + (f" and {_english_number(rest)}" if rest else "")


def _english_ordinal(value: int) -> str:
    irregular = {1: "first", 2: "second", 3: "third", 5: "fifth", 8: "eighth", 9: "ninth", 12: "twelfth"}
    if value in irregular:
        return irregular[value]
    if value < 20:
        return _english_number(value) + "th"
    if value % 10 == 0:
        return _english_number(value)[:-1] + "ieth"
    return f"{_english_number(value - value % 10)}-{_english_ordinal(value % 10)}"


def _italian_hour(hour: int) -> str:
    if hour == 0:
        return "a mezzanotte"
    return "all'una" if hour == 1 else f"alle {_italian_number(hour)}"


def _italian_time_written(at: time) -> str:
    hour = _italian_hour(at.hour) if at.hour < 2 else f"alle {at.hour}"
    return f"{hour} e {at.minute}" if at.minute else hour


def _italian_time_clips(at: time) -> tuple[str, ...]:
    return (f"hour/{at.hour}", f"minute/{at.minute}") if at.minute else (f"hour/{at.hour}",)


def _italian_clips_of_times() -> Iterator[tuple[str, str]]:
    for hour in range(24):
        yield f"hour/{hour}", f"{_italian_hour(hour)}."
    # Without a full stop: with one the voice swallows the ends of these.
    for minute in range(1, 60):
        yield f"minute/{minute}", f"e {_italian_number(minute)}"

    for hour in range(24):
        yield f"since/{hour}", f"{_italian_since_hour(hour)}."


def _italian_since_hour(hour: int) -> str:
    """`Alle nove` is `dalle nove`, `all'una` `dall'una`, `a mezzanotte` `da mezzanotte`."""
    return f"d{_italian_hour(hour)}" if hour else "da mezzanotte"


def _italian_since_written(at: time) -> str:
    return f"d{_italian_time_written(at)}" if at.hour else _italian_time_written(at).replace("a ", "da ", 1)


def _italian_since_clips(at: time) -> tuple[str, ...]:
    return f"since/{at.hour}", *_italian_time_clips(at)[1:]


def _half_of_day(hour: int) -> str:
    return "a.m." if hour < 12 else "p.m."


def _english_hour(hour: int) -> str:
    if hour in {0, 12}:
        return "at noon" if hour else "at midnight"
    return f"at {_english_number(hour % 12)} {'a m' if hour < 12 else 'p m'}"


def _english_time_written(at: time) -> str:
    if at.minute:
        return f"at {at.hour % 12 or 12}:{at.minute:02} {_half_of_day(at.hour)}"
    return _english_hour(at.hour) if at.hour in {0, 12} else f"at {at.hour % 12} {_half_of_day(at.hour)}"


def _english_time_clips(at: time) -> tuple[str, ...]:
    if not at.minute:
        return (f"hour/{at.hour}",)
    return f"hour/at-{at.hour % 12 or 12}", f"minute/{at.minute}-{'pm' if at.hour >= 12 else 'am'}"


def _english_clips_of_times() -> Iterator[tuple[str, str]]:
    for hour in range(24):
        yield f"hour/{hour}", f"{_english_hour(hour)}."
    for hour in range(1, 13):
        yield f"hour/at-{hour}", f"at {_english_number(hour)}."
    # Without their dots, which the voice would take for the ends of sentences.
    for half, said in (("am", "a m"), ("pm", "p m")):
        for minute in range(1, 60):
            oh = "oh " if minute < 10 else ""
            yield f"minute/{minute}-{half}", f"{oh}{_english_number(minute)} {said}."


GRAMMARS: Mapping[str, Grammar] = MappingProxyType(
    {
        "it": Grammar(
            weekdays=("lunedì", "martedì", "mercoledì", "giovedì", "venerdì", "sabato", "domenica"),
            months=(
                "gennaio", "febbraio", "marzo", "aprile", "maggio", "giugno",
                "luglio", "agosto", "settembre", "ottobre", "novembre", "dicembre",
            ),
            number=_italian_number,
            day_said=lambda day, month: f"{'primo' if day == 1 else _italian_number(day)} {month}",
            day_written=lambda day, month: f"{'1º' if day == 1 else day} {month}",
            time_written=_italian_time_written,
            time_clips=_italian_time_clips,
            clips_of_times=_italian_clips_of_times,
            since_written=_italian_since_written,
            since_clips=_italian_since_clips,
            letters=tuple(ITALIAN_LETTERS.split("|")),
            thousand="mille",
            thousands="mila",
        ),
        "en": Grammar(
            weekdays=("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"),
            months=(
                "January", "February", "March", "April", "May", "June",
                "July", "August", "September", "October", "November", "December",
            ),
            number=_english_number,
            day_said=lambda day, month: f"the {_english_ordinal(day)} of {month}",
            day_written=lambda day, month: f"{day} {month}",
            time_written=_english_time_written,
            time_clips=_english_time_clips,
            clips_of_times=_english_clips_of_times,
            since_written=_english_time_written,
            since_clips=_english_time_clips,
            letters=tuple(f"{word[0]}, for {word}" for word in ENGLISH_LETTERS.split()),
            thousand="one thousand",
            thousands="thousand",
        ),
    }
)  # fmt: skip


def words(prompt: Prompt, catalogue: Catalogue) -> str:
    """The prompt as a sentence to read; raises KeyError for an unknown phrase, ValueError for slots that do not fit."""
    text = ""
    for part in _heard(prompt, catalogue, always):
        piece = part.words if isinstance(part, Stretch) else _written(part, catalogue)
        # "at 6 p.m." at a sentence's end already has its full stop.
        text += piece.removeprefix(".") if text.endswith(".") else piece
    return text.strip()


def clips(prompt: Prompt, catalogue: Catalogue, has: HasClip = always) -> tuple[str, ...]:
    """The clips of the prompt in the order in which they are heard, named as `Clip.name`; raises as `words` does.

    `has` answers whether a clip can be played; Asterisk takes a missing one for a hang-up. A name without a clip is put
    together from its parts or replaced by `some-pupil`, a town's by `some-town`; hours are left out with what leads to them.
    """
    names: list[str] = []
    for part in _heard(prompt, catalogue, has):
        if not isinstance(part, Stretch):
            names += _clips_of(part, catalogue, has)
        elif part.clip:
            names.append(part.clip)
    return tuple(names)


def _heard(prompt: Prompt, catalogue: Catalogue, has: HasClip) -> list[Stretch | Slot]:
    slots = _slots(prompt, catalogue)
    heard: list[Stretch | Slot] = []
    for part in catalogue[prompt.id].parts:
        if isinstance(part, Stretch):
            heard.append(part)
            continue
        slot = slots[part.name]
        if isinstance(slot, SpokenWords) and not (slot.value and has(words_clip(slot.value))):
            # "It is open:" and then nothing would be worse than nothing.
            heard = heard[:-1]
        else:
            heard.append(slot)
    return heard


def _slots(prompt: Prompt, catalogue: Catalogue) -> dict[str, Slot]:
    given = dict(prompt.slots)
    expected = catalogue[prompt.id].slots
    if set(given) != set(expected):
        raise ValueError(f"prompt {prompt.id!r} was given the slots {sorted(given)}; its words have {sorted(expected)}")
    return given


def _written(slot: Slot, catalogue: Catalogue) -> str:
    grammar = GRAMMARS[catalogue.language]
    match slot:
        case FirstName(value) | SpokenWords(value):
            return value
        case FirstNames(values):
            return ", ".join(values)
        case TownName(value):
            return town_said(value)
        case SpokenDay(value):
            month = grammar.months[value.month - 1]
            return f"{grammar.weekdays[value.weekday()]} {grammar.day_written(value.day, month)}"
        case SchoolName(value) | SpokenCode(value):
            return value
        case SpokenTime(value):
            return grammar.time_written(value)
        case SpokenSince(value):
            return grammar.since_written(value)
        case SpokenDigits(value):
            return " ".join(value)
        case SpokenPhone(value):
            return " ".join(national(value))
        case SpokenNumber(value):
            return str(value)
        case Phrase(phrase_id):
            return words(Prompt(phrase_id), catalogue)


def _clips_of(slot: Slot, catalogue: Catalogue, has: HasClip) -> tuple[str, ...]:
    match slot:
        case FirstName(value):
            return _clips_of_name(value, has)
        case FirstNames(values):
            return tuple(clip for value in values for clip in _clips_of_name(value, has))
        case TownName(value):
            return (town_clip(value),) if has(town_clip(value)) else ("phrase/some-town",)
        case SchoolName(value):
            return (school_clip(value),) if has(school_clip(value)) else ("phrase/some-school",)
        case SpokenWords(value):
            return (words_clip(value),)
        case SpokenDay(value):
            return day_clips(value)
        case SpokenTime(value):
            return GRAMMARS[catalogue.language].time_clips(value)
        case SpokenSince(value):
            return GRAMMARS[catalogue.language].since_clips(value)
        case SpokenCode(value):
            return code_clips(value)
        case SpokenDigits(value):
            return digit_clips(value)
        case SpokenPhone(value):
            return digit_clips(national(value))
        case SpokenNumber(value):
            return number_clips(value)
        case Phrase(phrase_id):
            return clips(Prompt(phrase_id), catalogue, has)


def _clips_of_name(value: str, has: HasClip) -> tuple[str, ...]:
    whole = name_clip(value)
    if has(whole):
        return (whole,)
    parts = tuple(name_clip(part) for part in re.split(r"[\s-]+", value.strip()) if part)
    return parts if parts and all(map(has, parts)) else ("phrase/some-pupil",)


def name_clip(value: str) -> str:
    """The clip of a first name."""
    return f"name/{slug(value)}"


def town_clip(value: str) -> str:
    """The clip of a municipality's name."""
    return f"town/{slug(value)}"


def school_clip(value: str) -> str:
    """The clip of a school's name."""
    return f"school/{slug(value)}"


def words_clip(value: str) -> str:
    """The clip of words that a town has written, such as its office's hours."""
    return f"words/{slug(value)}"


def town_said(value: str) -> str:
    """The name as it follows `Mensa di`: without the `Comune di` of the letterhead."""
    return re.sub(r"^(comune|citt[àa]) di\s+", "", value.strip(), flags=re.IGNORECASE) or value


def name_said(value: str) -> str:
    """The name as the voice should read it: `NICOLO'` is Nicolò, and what is no letter is not read out."""
    text = re.sub(r"([aeiou])['’](?=[\s-]|$)", "\\1\u0300", value.strip(), flags=re.IGNORECASE)
    letters = (
        each for each in unicodedata.normalize("NFC", text) if each in "' -" or unicodedata.category(each)[0] in "LM"
    )
    text = "".join(letters).strip(" '-")
    return text.title() if text.isupper() or text.islower() else text


def day_clips(value: date) -> tuple[str, ...]:
    """Weekday (ISO, 1 is Monday) and day of the year as MMDD."""
    return f"weekday/{value.isoweekday()}", f"day/{value.month:02}{value.day:02}"


def digit_clips(value: str) -> tuple[str, ...]:
    """Two digits a clip, an odd last one alone: joined single digits are the least understood words there are."""
    if not (value.isascii() and value.isdigit()):
        raise ValueError(f"{len(value)} characters to be spoken as digits are not all digits; expected 0-9 only")
    return tuple(f"digits/{value[at : at + 2]}" for at in range(0, len(value), 2))


def can_be_spelled(code: str) -> bool:
    """Whether a kitchen's code is letters and digits, and few enough to be kept in mind."""
    return code.isascii() and code.isalnum() and len(code) <= CODE_CHARACTERS_MAX


def code_clips(value: str) -> tuple[str, ...]:
    """A letter or two digits a clip. Raises ValueError for a code that cannot be spelled."""
    if not can_be_spelled(value):
        raise ValueError(
            f"the code {value!r} cannot be spelled; expected {CODE_CHARACTERS_MAX} letters and digits at most"
        )
    clips: list[str] = []
    for part in re.findall(r"\d+|\D", value):
        clips += digit_clips(part) if part.isdigit() else (f"letter/{part.lower()}",)
    return tuple(clips)


def number_clips(value: int) -> tuple[str, ...]:
    """A count from 0 to 999,999."""
    if not 0 <= value <= NUMBER_MAX:
        raise ValueError(f"the number {value} has no clips; expected 0 to {NUMBER_MAX}")
    if value >= 1000:
        thousands, rest = divmod(value, 1000)
        head = ("number/1000",) if thousands == 1 else (*number_clips(thousands), "number/thousands")
        return (*head, *number_clips(rest)) if rest else head
    hundreds, rest = divmod(value, 100)
    if value <= NUMBER_CLIPS_MAX or rest == 0:
        return (f"number/{value}",)
    return f"number/{hundreds * 100}", f"number/{rest}"


def national(phone: str) -> str:
    """An E.164 number as it is dialled in Italy: without +39, any other country after 00."""
    return phone.removeprefix("+39") if phone.startswith("+39") else phone.replace("+", "00", 1)


def slug(value: str) -> str:
    """A file name for spoken words: equal for what sounds equal (case, hyphens, `Nicolo'`), else different.

    An accent or any other character beyond a-z and 0-9 becomes its code point, `nicolo_300_`.
    """
    text = " ".join(value.replace("’", "'").casefold().split())
    # Registers on typewriters wrote the accent as an apostrophe, and many still do.
    text = re.sub(r"([aeiou])'(?=[\s-]|$)", "\\1\u0300", text)
    text = unicodedata.normalize("NFD", text)
    text = re.sub(r"[\s-]+", "-", text)
    text = re.sub(r"[^a-z0-9-]", lambda found: f"_{ord(found[0]):x}_", text)
    if len(text) <= SLUG_CHARACTERS_MAX:
        return text
    return text[: SLUG_CHARACTERS_MAX - 17] + "_" + hashlib.sha256(text.encode()).hexdigest()[:16]


def composed_clips(language: str) -> tuple[Clip, ...]:
    """The clips that dates, times, receipts and numbers are made of: the same for every town."""
    return tuple(Clip(name, said, language) for name, said in _composed(GRAMMARS[language]))


def _composed(grammar: Grammar) -> Iterator[tuple[str, str]]:
    for number, weekday in enumerate(grammar.weekdays, start=1):
        yield f"weekday/{number}", f"{weekday},"
    for month_number, month in enumerate(grammar.months, start=1):
        for day in range(1, days_of_month(month_number) + 1):
            yield f"day/{month_number:02}{day:02}", f"{grammar.day_said(day, month)}."
    yield from grammar.clips_of_times()
    for value in range(10):
        yield f"digits/{value}", f"{grammar.number(value)}."
    for value in range(100):
        yield f"digits/{value:02}", f"{grammar.number(value // 10)}, {grammar.number(value % 10)}."
    for value in (*range(NUMBER_CLIPS_MAX + 1), *range(300, 1000, 100)):
        yield f"number/{value}", f"{grammar.number(value)}."
    yield "number/1000", f"{grammar.thousand}."
    yield "number/thousands", f"{grammar.thousands}."
    for letter, letter_said in zip(ascii_lowercase, grammar.letters, strict=True):
        yield f"letter/{letter}", f"{letter_said}."


def days_of_month(month: int) -> int:
    """How many days a month can have; 29 in February."""
    return 29 if month == 2 else 30 if month in {4, 6, 9, 11} else 31


def required_clips(catalogue: Catalogue) -> tuple[Clip, ...]:
    """Every clip without which a call in this language cannot be held, whatever the town."""
    return (*catalogue.clips, *composed_clips(catalogue.language))


def missing_clips(catalogue: Catalogue, present: Iterable[str]) -> tuple[str, ...]:
    """Which required clips are not among `present`, in the order of the catalogue: with any, the line cannot be opened."""
    there = frozenset(present)
    return tuple(clip.name for clip in required_clips(catalogue) if clip.name not in there)


def missing_names(names: Iterable[str], present: Iterable[str]) -> tuple[str, ...]:
    """The first names without a clip, neither whole nor in parts: these pupils are called `some-pupil`."""
    there = frozenset(present)
    return tuple(name for name in names if _clips_of_name(name, there.__contains__) == ("phrase/some-pupil",))


def said(text: str, language: str) -> str:
    """Words as the voice should read them: each number of up to three digits as a word."""
    number = GRAMMARS[language].number
    return re.sub(r"\d{1,3}", lambda found: number(int(found[0])), text)
