"""people.csv: all or nothing, every bad row with its place, one guardian and one pupil however many rows they have."""

from datetime import date
from pathlib import Path

import pytest

from core.people import Diet, People
from gateway.files.mistakes import Mistake
from gateway.files.people import PeopleRules, parse_people, read_people
from tests.town_files import loaded, said, write_town

FILE = Path("people.csv")
RULES = PeopleRules(5, 4, ("it", "en"), {"primaria": ["1A", "3B"], "infanzia": ["Girasoli"]})
HEADER = (
    "user_code,pupil_name,pupil_surname,codice_fiscale,school,class,diet,diet_from,diet_until,"
    "guardian_name,guardian_surname,guardian_email,guardian_phone,recognise_number,language,pin\n"
)
ANNA = "50004,Anna,Ferrari,,primaria,1A,,,,Laura,Ferrari,laura@example.org,0350000101,yes,it,4321\n"


def people(text: str | bytes) -> People:
    found = parse_people(FILE, text.encode() if isinstance(text, str) else text, RULES)
    assert isinstance(found, People), "\n".join(map(str, found))
    return found


def mistakes(text: str | bytes) -> list[str]:
    found = parse_people(FILE, text.encode() if isinstance(text, str) else text, RULES)
    assert isinstance(found, tuple)
    assert all(isinstance(each, Mistake) for each in found)
    return [f"{each.line}:{each.column}: {each.message}" for each in found]


def test_a_row_is_a_pupil_and_a_guardian() -> None:
    found = people(HEADER + ANNA)

    [pupil], [guardian] = found.pupils, found.guardians
    assert (pupil.user_code, pupil.name, pupil.surname) == ("50004", "Anna", "Ferrari")
    assert (pupil.school, pupil.class_group, pupil.guardians) == ("primaria", "1A", (0,))
    assert (pupil.codice_fiscale, pupil.diet) == (None, None)
    assert (guardian.phone, guardian.recognise, guardian.language, guardian.pin) == (
        "+390350000101",
        True,
        "it",
        "4321",
    )


def test_four_columns_are_enough_and_their_order_is_free() -> None:
    found = people("class,school,pupil_name,user_code\n1A,primaria,Anna,50004\n")

    assert found.guardians == ()
    assert [(pupil.user_code, pupil.class_group) for pupil in found.pupils] == [("50004", "1A")]


def test_a_byte_order_mark_windows_line_ends_and_empty_rows_are_taken() -> None:
    text = (HEADER + "\n" + ANNA + ",,,,,,,,,,,,,,,\n").replace("\n", "\r\n")

    assert len(people(b"\xef\xbb\xbf" + text.encode()).pupils) == 1


def test_rows_of_one_email_are_one_guardian_however_it_is_capitalised() -> None:
    found = people(HEADER + ANNA + ANNA.replace("50004,Anna", "50005,Marco"))

    assert len(found.guardians) == 1
    assert [pupil.guardians for pupil in found.pupils] == [(0,), (0,)]


def test_without_an_email_rows_of_one_phone_are_one_guardian() -> None:
    first = ANNA.replace("laura@example.org", "")
    second = first.replace("50004,Anna", "50005,Marco").replace("0350000101", "+39 035 0000101")

    assert len(people(HEADER + first + second).guardians) == 1


def test_rows_of_one_user_code_are_one_pupil_with_several_guardians() -> None:
    other = ANNA.replace("Laura", "Paolo").replace("laura@", "paolo@").replace("4321", "8765")

    found = people(HEADER + ANNA + other)

    assert [pupil.guardians for pupil in found.pupils] == [(0, 1)]


def test_a_guardian_without_email_and_phone_is_one_for_each_row() -> None:
    text = "user_code,pupil_name,school,class,pin\n50004,Anna,primaria,1A,1111\n50004,Anna,primaria,1A,2222\n"

    assert [guardian.pin for guardian in people(text).guardians] == ["1111", "2222"]


def test_a_weak_pin_from_a_file_is_taken_and_an_empty_one_is_left_to_be_made() -> None:
    text = (
        HEADER
        + ANNA.replace("4321", "0000")
        + ANNA.replace("50004", "50005").replace("laura@", "l@").replace("4321", "")
    )

    assert [guardian.pin for guardian in people(text).guardians] == ["0000", None]


def test_a_diet_has_a_first_and_a_last_day() -> None:
    found = people(HEADER + ANNA.replace("1A,,,", "1A,SG,2026-09-14,2027-06-08"))

    assert found.pupils[0].diet == Diet("SG", date(2026, 9, 14), date(2027, 6, 8))


def test_a_codice_fiscale_with_the_right_check_character_is_taken_in_one_way_of_writing() -> None:
    found = people(HEADER + ANNA.replace("Ferrari,,", "Ferrari,frrnna17c13z999l,"))

    assert found.pupils[0].codice_fiscale == "FRRNNA17C13Z999L"


@pytest.mark.parametrize(
    ("old", "new", "mistake"),
    [
        ("50004", "504", "2:1: user_code: '504'; expected 5 digits"),
        ("50004", "5000a", "2:1: user_code: '5000a'; expected 5 digits"),
        ("50004", "", "2:1: user_code: nothing; expected the pupil's user code"),
        ("Anna", "", "2:7: pupil_name: nothing; expected the pupil's first name"),
        ("primaria", "primria", "2:21: school: there is no school 'primria'; did you mean 'primaria'?"),
        ("1A", "9A", "2:30: class: school 'primaria' has no class '9A'; expected one of 1A, 3B"),
        ("1A", "", "2:30: class: nothing; expected a class of the school"),
        (
            "1A,,",
            "1A,,2026-09-14",
            "2:34: diet_from: '2026-09-14', but there is no diet; expected a diet, or nothing here",
        ),
        ("1A,,", "1A,SG,soon", "2:36: diet_from: 'soon' is no day; expected year, month and day as 2026-11-24"),
        (
            "1A,,,",
            "1A,SG,2026-10-01,2026-09-01",
            "2:47: diet_until: 2026-09-01 is before diet_from 2026-10-01; expected the later day",
        ),
        ("laura@example.org", "laura", "2:50: guardian_email: the value is not right; expected a mail address"),
        ("0350000101", "999", "2:68: guardian_phone: '***' is no telephone number; expected it as \"+390350000101\""),
        (",yes,", ",si,", "2:79: recognise_number: 'si'; expected yes, no or nothing"),
        (
            "0350000101",
            "",
            "2:69: recognise_number: yes, but there is no guardian_phone; expected the number to recognise",
        ),
        (",it,", ",de,", "2:83: language: the town does not speak 'de'; expected one of it, en"),
        ("4321", "12345", "2:86: pin: 5 characters; expected 4 digits"),
        ("4321", "４３２１", "2:86: pin: 4 characters; expected 4 digits"),
        (
            "Ferrari,,primaria",
            "Ferrari,FRRNNA17C13Z999A,primaria",
            "2:20: codice_fiscale: 16 characters: the number's checksum or check digit is invalid; "
            "expected 16 characters with the right check character, or nothing",
        ),
        (",4321", "", "2:1: the row has 15 fields; expected 16, as the header has"),
    ],
)
def test_a_bad_value_is_reported_with_line_and_column(old: str, new: str, mistake: str) -> None:
    assert mistakes(HEADER + ANNA.replace(old, new, 1)) == [mistake]


@pytest.mark.parametrize(
    ("old", "new", "mistake"),
    [
        ("4321", "1234", "3:87: pin: not the same as for this guardian on line 2; expected one and the same value"),
        (
            "0350000101",
            "0350000102",
            "3:69: guardian_phone: not the same as for this guardian on line 2; expected one and the same value",
        ),
        (
            ",it,",
            ",en,",
            "3:84: language: not the same as for this guardian on line 2; expected one and the same value",
        ),
        (
            ",yes,",
            ",,",
            "3:80: recognise_number: not the same as for this guardian on line 2; expected one and the same value",
        ),
    ],
)
def test_a_guardian_who_differs_between_rows_is_a_mistake_that_names_the_first(
    old: str, new: str, mistake: str
) -> None:
    second = ANNA.replace("50004,Anna", "50005,Marco").replace(old, new)

    assert mistakes(HEADER + ANNA + second) == [mistake]


def test_a_pupil_who_differs_between_rows_is_a_mistake_that_names_the_first() -> None:
    other = ANNA.replace("laura@", "paolo@").replace("primaria,1A", "primaria,3B")

    assert mistakes(HEADER + ANNA + other) == [
        "3:30: class: not the same as for this pupil on line 2; expected one and the same value"
    ]


def test_the_same_pupil_and_guardian_twice_is_a_mistake() -> None:
    assert mistakes(HEADER + ANNA + ANNA) == [
        "3:1: user_code: this pupil and guardian have a row already; expected one for each pair"
    ]


def test_every_bad_row_is_reported_and_nothing_is_taken() -> None:
    bad = ANNA.replace("50004", "5")

    assert [mistake.split(":")[0] for mistake in mistakes(HEADER + bad + ANNA + bad)] == ["2", "4"]


def test_fields_in_quotes_may_hold_commas_and_line_breaks_and_places_stay_right() -> None:
    text = 'user_code,pupil_name,school,class\n50004,"Anna, ""la""\nbionda",primria,1A\n'

    assert mistakes(text) == [
        "2:7: pupil_name: the value is not right; expected a name on one line",
        "3:9: school: there is no school 'primria'; did you mean 'primaria'?",
    ]


def test_an_unknown_a_doubled_and_a_missing_column_are_mistakes() -> None:
    text = HEADER.replace("language", "lingua").replace("diet_from", "diet")

    assert mistakes(text + ANNA)[:2] == [
        "1:69: column 'diet' is there twice; expected it once",
        "1:163: unknown column 'lingua'; did you mean 'language'?",
    ]
    assert mistakes("user_code,pupil_name,class\n50004,Anna,1A\n") == [
        "1:1: missing columns: school; expected at least user_code, pupil_name, school, class"
    ]


def test_semicolons_between_columns_are_said_to_be_what_is_wrong() -> None:
    assert mistakes(HEADER.replace(",", ";") + ANNA.replace(",", ";")) == [
        "1:1: the columns are parted by ;; expected commas: save the file as CSV with commas"
    ]


def test_torn_utf8_is_one_mistake_with_its_place() -> None:
    text = (HEADER + ANNA).encode().replace(b"Anna", b"Nicol\xf2")

    assert mistakes(text) == ["2:12: the byte 0xf2 is not UTF-8; save the file as UTF-8"]


def test_quotes_that_never_close_are_a_mistake_of_their_row() -> None:
    assert mistakes('user_code,pupil_name,school,class\n50004,"Anna,primaria,1A\n') == [
        "2:1: this row is no CSV: unexpected end of data; expected fields parted by commas, quotes closed"
    ]


def test_an_empty_file_has_no_header() -> None:
    assert mistakes("") == ["1:1: there is no header row; expected user_code,pupil_name,school,class,…"]


def test_no_message_shows_a_name_a_pin_a_whole_number_or_a_codice_fiscale() -> None:
    pupil = "50004,Anna\x07,Ferr\x07ari,FRRNNA17C13Z999A,primaria,1A,,,,"
    row = f"{pupil}Lau\x07ra,Ferrari,laura#example,+39035000077799999,yes,it,98761\n"

    text = "\n".join(mistakes(HEADER + row))

    for secret in ("Anna", "Ferr", "FRRNNA", "Lau", "laura", "35000077", "98761"):
        assert secret not in text


def test_a_missing_file_is_a_mistake(tmp_path: Path) -> None:
    town = loaded(write_town(tmp_path / "borgo"))

    assert said(read_people(tmp_path / "people.csv", town)) == [
        "people.csv:1:1: the file cannot be read: no such file or directory; expected a CSV file in UTF-8"
    ]


def test_the_town_says_what_its_codes_classes_and_languages_are(tmp_path: Path) -> None:
    town = loaded(write_town(tmp_path / "borgo", people=HEADER + ANNA))
    assert town.people_file is not None

    found = read_people(town.people_file, town)

    assert isinstance(found, People)
    assert said(read_people(write_people(tmp_path, ANNA.replace(",it,", ",en,")), town)) == [
        "people.csv:2:83: language: the town does not speak 'en'; expected one of it"
    ]


def write_people(folder: Path, rows: str) -> Path:
    file = folder / "people.csv"
    file.write_text(HEADER + rows, encoding="utf-8")
    return file
