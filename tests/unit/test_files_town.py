"""A town's three YAML files: what they make, and every mistake in them at once, with its place."""

from datetime import date, time, timedelta
from pathlib import Path

import pytest

from core.calendar import Service
from core.window import Anytime, Channel, Evening
from gateway.files.load import Configuration, check_folder, load_configuration, load_town
from gateway.files.shapes import EXCEPTIONS_MAX
from tests.town_files import CALENDAR, MUNICIPALITY, SCHOOLS, loaded, said, write_town


def mistakes(folder: Path, **files: str) -> list[str]:
    return said(load_town(write_town(folder, **files)))


def test_only_name_numbers_and_user_code_digits_are_required(tmp_path: Path) -> None:
    town = loaded(write_town(tmp_path / "borgo"))

    assert (town.key, town.name, town.numbers, town.user_code_digits) == (
        "borgo",
        "Comune di Borgo",
        ("+390350000200",),
        5,
    )
    assert (town.languages, town.pin_digits, town.clock_bound_max) == (("it",), 4, timedelta(seconds=2))
    assert str(town.timezone) == "Europe/Rome"
    assert (town.office, town.kitchen, town.people_file) == (None, None, None)
    assert town.town.bland_days_max == 3
    assert town.town.windows == {
        Channel.PHONE: Evening(time(18, 0)),
        Channel.PORTAL: Anytime(60),
        Channel.TELEGRAM: Anytime(60),
        Channel.OFFICE: Anytime(60),
    }


def test_R9_windows_and_their_opening_are_configuration(tmp_path: Path) -> None:
    text = MUNICIPALITY + 'look_ahead_days: 15\nwindows: {phone: anytime, portal: {opens: "17:00"}}\n'

    windows = loaded(write_town(tmp_path / "borgo", municipality=text)).town.windows

    assert windows[Channel.PHONE] == Anytime(15)
    assert windows[Channel.PORTAL] == Evening(time(17, 0))
    assert windows[Channel.OFFICE] == Anytime(15)


def test_R2_the_files_say_which_days_are_served(tmp_path: Path) -> None:
    calendar = loaded(write_town(tmp_path / "borgo")).town.calendar
    first, third = calendar.classes["primaria", "1A"], calendar.classes["primaria", "3B"]

    assert calendar.status(first, date(2026, 11, 24)).service is Service.SERVED
    assert calendar.status(third, date(2026, 11, 24)).service is Service.WEEKDAY
    assert calendar.status(third, date(2026, 11, 26)).why == "Gita"
    assert calendar.status(first, date(2026, 11, 11)).service is Service.PATRON
    assert calendar.status(first, date(2026, 12, 28)).why == "Vacanze di Natale"
    assert calendar.status(first, date(2027, 6, 9)).service is Service.OUT_OF_YEAR
    assert calendar.cutoff_time("primaria", date(2026, 11, 27)) == time(8, 30)
    assert calendar.cutoff_time("infanzia", date(2026, 11, 27)) == time(9, 0)


def test_R2_national_holidays_have_italian_names_and_4_october_is_one_from_2026(tmp_path: Path) -> None:
    holidays = loaded(write_town(tmp_path / "borgo")).town.calendar.holidays

    assert holidays[date(2026, 12, 8)] == "Immacolata Concezione"
    assert holidays[date(2027, 3, 29)] == "Lunedì dell'Angelo"
    assert date(2026, 10, 4) in holidays
    assert date(2026, 11, 11) not in holidays


def test_six_different_mistakes_in_one_file_are_six_lines(tmp_path: Path) -> None:
    text = """\
year: 2026/2027
service: 2026-09-14..2027-06-08
patron: 2026-02-30
exceptions:
  - {closed: 2026-12-23..2027-01-06, why: Vacanze di Natale}
  - {open: 2026-12-24, why: Recupero}
  - {closed: 2026-11-26, why: Gita, class: primaria/3C}
  - {closed: 2026-11-27, whi: Gita}
cutoffs:
  - {date: 2026-11-27, at: "25:00"}
  - {date: 2026-11-30, at: "08:30", school: primria}
"""

    assert mistakes(tmp_path / "borgo", calendar=text) == [
        "calendar.yaml:3:9: patron: '2026-02-30' does not exist; expected a day of the calendar",
        "calendar.yaml:6:5: 2026-12-24 is open here and closed in calendar.yaml:5, for the whole town; keep one of the two",
        "calendar.yaml:7:44: class: school 'primaria' has no class '3C'; expected one of 1A, 3B",
        "calendar.yaml:8:26: unknown key 'whi'; did you mean 'why'?",
        "calendar.yaml:10:28: at: '25:00' is no time of day; expected hours and minutes as \"09:30\"",
        "calendar.yaml:11:45: school: schools.yaml has no school 'primria'; did you mean 'primaria'?",
    ]


def test_the_mistakes_of_all_files_come_at_once_in_the_order_of_the_files(tmp_path: Path) -> None:
    found = mistakes(
        tmp_path / "borgo",
        municipality=MUNICIPALITY.replace("numbers:", "number:"),
        schools=SCHOOLS.replace("wed", "mer"),
        calendar=CALENDAR + "patrno: 2026-11-11\n",
    )

    assert found == [
        "municipality.yaml:2:1: unknown key 'number'; did you mean 'numbers'?",
        "schools.yaml:6:22: 1A: 'mer' is no weekday; did you mean 'wed'?",
        "schools.yaml:13:28: Girasoli: 'mer' is no weekday; did you mean 'wed'?",
        "calendar.yaml:9:1: unknown key 'patrno'; did you mean 'patron'?",
    ]


@pytest.mark.parametrize(
    ("line", "mistake"),
    [
        ("timezone: Europe/Roma", "4:11: timezone: there is no time zone 'Europe/Roma'; did you mean 'Europe/Rome'?"),
        ("languages: [it, eng]", "4:17: languages: the line does not speak 'eng'; did you mean 'en'?"),
        ("languages: []", "4:12: languages: the list is empty; expected one language at least, as [it]"),
        ("languages: [it, it]", "4:17: languages: this stands in the list already; expected each once"),
        ("look_ahead_days: none", "4:18: look_ahead_days: 'none' is no whole number; expected one in digits"),
        ("look_ahead_days: 0", "4:18: look_ahead_days: '0' is too small; expected at least 1"),
        ("pin_digits: 20", "4:13: pin_digits: '20' is too large; expected at most 8"),
        (
            'office: {phone: "12"}',
            '4:17: phone: \'12\' is no telephone number; expected it as "+390350000100" or "800000100"',
        ),
        (
            "office: {address: nobody}",
            "4:19: address: 'nobody' is no mail address; expected one as ufficio@example.org",
        ),
        ("windows: {phone: never}", "4:18: phone: 'never' is no window; expected anytime, or {opens: \"18:00\"}"),
        ("windows: {phone: {}}", "4:18: 'opens' is missing; expected the time at which the window opens, as \"18:00\""),
        ("clock: 3", "4:8: clock: '3' is no table; expected keys with values, as `key: value`"),
        (
            'hosts: ["https://mensa.example.org"]',
            "4:9: hosts: 'https://mensa.example.org' is no host name; "
            "expected one without scheme, port or path, as mensa.comune.example.org",
        ),
        (
            "hosts: [mensa.example.org, MENSA.example.org]",
            "4:28: hosts: this stands in the list already; expected each once",
        ),
        (
            'bot: "@borgo_mensa_bot"',
            "4:6: bot: '@borgo_mensa_bot' is no bot's user name; "
            "expected 5 to 32 letters, digits or _ without the @, ending in bot, as borgo_mensa_bot",
        ),
        (
            "bot: borgo_mensa",
            "4:6: bot: 'borgo_mensa' is no bot's user name; "
            "expected 5 to 32 letters, digits or _ without the @, ending in bot, as borgo_mensa_bot",
        ),
        ("name: Comune due", "4:1: the key 'name' stands on line 1 already; keep one of the two"),
    ],
)
def test_a_mistake_in_municipality_yaml_says_where_what_and_what_would_be_right(
    tmp_path: Path, line: str, mistake: str
) -> None:
    assert mistakes(tmp_path / "borgo", municipality=f"{MUNICIPALITY}{line}\n") == [f"municipality.yaml:{mistake}"]


@pytest.mark.parametrize(
    ("old", "new", "mistake"),
    [
        (
            '    cutoff: "09:30"\n',
            "",
            "3:5: 'cutoff' is missing; expected until when a day can be changed, as \"09:30\"",
        ),
        ('cutoff: "09:30"', 'cutof: "09:30"', "4:5: unknown key 'cutof'; did you mean 'cutoff'?"),
        (
            "[mon, thu]",
            "[]",
            "7:11: class '3B' has no weekday; expected those on which it eats at school, as [mon, wed]",
        ),
        ("[mon, thu]", "[mon, mon]", "7:17: 3B: this stands in the list already; expected each once"),
        ("[mon, thu]", "mon", "7:11: 3B: 'mon' is no list; expected one, as [a, b] or with a line `- a` for each"),
        ("      3B:", "      3 B:", "7:7: '3 B' cannot be a key; expected letters, digits, `-` or `_`, without spaces"),
        (
            "2027-06-30",
            "2028-06-30",
            "11:14: service: '2026-09-21..2028-06-30' is longer than 400 days; expected days of one school year",
        ),
        (
            "2026-09-21..",
            "",
            "11:14: service: '2027-06-30' is one day; expected first and last as 2026-09-14..2027-06-08",
        ),
    ],
)
def test_a_mistake_in_schools_yaml_says_where_what_and_what_would_be_right(
    tmp_path: Path, old: str, new: str, mistake: str
) -> None:
    calendar = CALENDAR.replace("  - {closed: 2026-11-26, why: Gita, class: primaria/3B}\n", "")

    assert mistakes(tmp_path / "borgo", schools=SCHOOLS.replace(old, new, 1), calendar=calendar) == [
        f"schools.yaml:{mistake}"
    ]


@pytest.mark.parametrize(
    ("exception", "mistake"),
    [
        (
            "{why: Gita}",
            "7:5: exceptions: the exception is neither closed nor open; expected one of the two, with a day or a range",
        ),
        (
            "{closed: 2026-11-26, open: 2026-11-26}",
            "7:5: exceptions: the exception is both closed and open; expected one of the two, with a day or a range",
        ),
        (
            "{closed: 2026-11-27, school: primaria, class: primaria/3B}",
            "7:5: exceptions: the exception has a school and a class; expected one of the two, the class as school/class",
        ),
        ("{closed: 2026-11-27, class: 3B}", "7:33: class: '3B' names no school; expected school/class, as primaria/3B"),
        (
            "{closed: 2026-11-27..2026-11-26}",
            "7:14: closed: '2026-11-27..2026-11-26' ends before it starts; expected the earlier day first",
        ),
        (
            "{closed: 2062-11-27}",
            "7:14: closed: 2062-11-27 lies outside the school year; expected days from 2026-08-01 to 2027-08-31",
        ),
        ("{closed: 27/11/2026}", "7:14: closed: '27/11/2026' is no day; expected year, month and day as 2026-11-24"),
        (
            "{open: 2026-11-26, class: primaria/3B}",
            "7:5: 2026-11-26 is open here and closed in calendar.yaml:6, for class 'primaria/3B'; keep one of the two",
        ),
    ],
)
def test_a_mistake_in_an_exception_says_where_what_and_what_would_be_right(
    tmp_path: Path, exception: str, mistake: str
) -> None:
    text = CALENDAR.replace("cutoffs:", f"  - {exception}\ncutoffs:")

    assert mistakes(tmp_path / "borgo", calendar=text) == [f"calendar.yaml:{mistake}"]


def test_R2_exceptions_of_different_scopes_do_not_contradict(tmp_path: Path) -> None:
    text = CALENDAR.replace("cutoffs:", "  - {open: 2026-11-26, school: primaria}\ncutoffs:")

    calendar = loaded(write_town(tmp_path / "borgo", calendar=text)).town.calendar

    assert calendar.is_served(calendar.classes["primaria", "1A"], date(2026, 11, 26))
    assert not calendar.is_served(calendar.classes["primaria", "3B"], date(2026, 11, 26))


def test_two_cutoffs_of_one_school_on_one_date_are_a_mistake(tmp_path: Path) -> None:
    text = CALENDAR + '  - {date: 2026-11-27, at: "08:00", school: primaria}\n  - {date: 2026-11-27, at: "08:00"}\n'

    assert mistakes(tmp_path / "borgo", calendar=text) == [
        "calendar.yaml:9:5: 2026-11-27 has a cutoff for school 'primaria' in calendar.yaml:8 already; keep one of the two"
    ]


def test_R7_an_opening_that_is_not_later_than_every_cutoff_is_a_mistake(tmp_path: Path) -> None:
    text = MUNICIPALITY + 'windows: {phone: {opens: "09:30"}}\n'

    assert mistakes(tmp_path / "borgo", municipality=text) == [
        "municipality.yaml:4:26: opens: the phone window opens at 09:30, the cutoff in schools.yaml:4 is 09:30; "
        "expected a time after every cutoff"
    ]


def test_R7_a_cutoff_of_one_date_that_is_not_before_the_opening_is_a_mistake(tmp_path: Path) -> None:
    text = CALENDAR + '  - {date: 2026-11-30, at: "18:00"}\n'

    assert mistakes(tmp_path / "borgo", calendar=text) == [
        "calendar.yaml:9:28: the cutoff 18:00 is not before 18:00, when the phone window opens (the default); "
        "expected an earlier cutoff"
    ]


def test_a_missing_file_is_one_mistake_among_the_others(tmp_path: Path) -> None:
    folder = write_town(tmp_path / "borgo", calendar="service: never\n")
    (folder / "schools.yaml").unlink()

    assert said(load_town(folder)) == [
        "schools.yaml:1:1: the file cannot be read: no such file or directory; "
        "expected municipality.yaml, schools.yaml, calendar.yaml",
        "calendar.yaml:1:10: service: 'never' is no day; expected year, month and day as 2026-11-24",
    ]


def test_lists_that_were_emptied_are_empty(tmp_path: Path) -> None:
    calendar = loaded(
        write_town(tmp_path / "borgo", calendar="service: 2026-09-14..2027-06-08\npatron:\nexceptions:\ncutoffs:\n")
    ).town.calendar

    assert (calendar.exceptions, calendar.cutoffs, calendar.patron) == ((), (), None)


def test_more_exceptions_than_anybody_can_read_are_a_mistake(tmp_path: Path) -> None:
    text = CALENDAR.replace("exceptions:\n", "exceptions:\n" + "  - {closed: 2026-11-30}\n" * EXCEPTIONS_MAX)

    assert mistakes(tmp_path / "borgo", calendar=text) == [
        f"calendar.yaml:5:3: exceptions: more than {EXCEPTIONS_MAX} entries; expected at most {EXCEPTIONS_MAX}"
    ]


def test_a_town_with_mistakes_keeps_no_other_from_being_served(tmp_path: Path) -> None:
    write_town(tmp_path / "municipalities" / "borgo")
    write_town(tmp_path / "municipalities" / "rotta", calendar="service: never\n")

    configuration = load_configuration(tmp_path)

    assert isinstance(configuration, Configuration)
    assert [town.key for town in configuration.municipalities] == ["borgo"]
    assert list(configuration.broken) == ["rotta"]
    town = configuration.municipalities.reached_by("+390350000200")
    assert town is not None
    assert town.key == "borgo"


def test_one_dialled_number_in_two_towns_is_a_mistake_of_the_second(tmp_path: Path) -> None:
    write_town(tmp_path / "municipalities" / "borgo")
    other = MUNICIPALITY.replace('["0350000200"]', '["800000100", "+390350000200"]')
    write_town(tmp_path / "municipalities" / "rocca", municipality=other)

    found = check_folder(tmp_path)

    assert said(found) == [
        "municipality.yaml:2:24: numbers: +390350000200 reaches the town 'borgo' already; expected a number of this town alone"
    ]
    assert found[0].file.parent.name == "rocca"


def test_a_whole_configuration_folder_is_checked_at_once_people_included(tmp_path: Path) -> None:
    (tmp_path / "gateway.yaml").write_text("agi: {prt: 4573}\n")
    write_town(
        tmp_path / "municipalities" / "borgo",
        calendar=CALENDAR + "nothing: 1\n",
        people="user_code,pupil_name,school,class\n5,Anna,primaria,1A\n",
    )

    assert said(check_folder(tmp_path)) == [
        "gateway.yaml:1:7: unknown key 'prt'; did you mean 'port'?",
        "calendar.yaml:9:1: unknown key 'nothing'; expected one of year, service, patron, exceptions, cutoffs",
        "people.csv:2:1: user_code: '5'; expected 5 digits",
    ]


def test_a_folder_that_is_neither_is_said_to_be_so(tmp_path: Path) -> None:
    [mistake] = check_folder(tmp_path)

    assert "neither a town's folder nor a configuration folder" in mistake.message


def test_the_name_of_a_towns_folder_must_be_fit_for_a_key(tmp_path: Path) -> None:
    write_town(tmp_path / "municipalities" / "borgo (copia)")

    configuration = load_configuration(tmp_path)

    assert isinstance(configuration, Configuration)
    [mistakes] = configuration.broken.values()
    assert "'borgo (copia)' cannot be a key" in mistakes[0].message
