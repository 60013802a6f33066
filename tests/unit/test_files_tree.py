"""YAML as texts with places: nothing guessed, nothing lost, everything odd refused where it stands."""

from pathlib import Path

import pytest

from gateway.files.tree import BYTES_MAX, plain, read_tree

FILE = Path("a.yaml")


def read(text: str | bytes) -> object:
    tree, mistakes = read_tree(FILE, text.encode() if isinstance(text, str) else text)
    assert mistakes == []
    assert tree is not None
    return plain(tree)


def mistakes(text: str | bytes) -> list[str]:
    return [str(each) for each in read_tree(FILE, text.encode() if isinstance(text, str) else text)[1]]


def test_dates_times_and_words_that_look_like_others_stay_text() -> None:
    values = read("day: 2026-02-30\nat: 10:30\nlanguage: no\nnumber: 0350000100\nnothing:\nalso: ~\nquoted: 'null'\n")

    assert values == {
        "day": "2026-02-30",
        "at": "10:30",
        "language": "no",
        "number": "0350000100",
        "nothing": None,
        "also": None,
        "quoted": "null",
    }


@pytest.mark.parametrize("text", ["", "\n\n", "# only a comment\n", "---\n", "null\n", b"\xef\xbb\xbf"])
def test_an_empty_file_is_an_empty_table(text: str | bytes) -> None:
    assert read(text) == {}


def test_every_duplicate_key_is_a_mistake_that_names_the_first() -> None:
    assert mistakes("a: 1\nb: {c: 1, c: 2}\na: 3\n") == [
        "a.yaml:2:11: the key 'c' stands on line 2 already; keep one of the two",
        "a.yaml:3:1: the key 'a' stands on line 1 already; keep one of the two",
    ]


@pytest.mark.parametrize(
    ("text", "mistake"),
    [
        ("a: [1\nb: 2\n", "a.yaml:2:2: this is not YAML: expected ',' or ']', but got ':'"),
        ("a:\n\tb: 1\n", "a.yaml:2:1: this is not YAML: found character '\\t' that cannot start any token"),
        ("a: *b\n", "a.yaml:1:4: the alias '*b' is not taken; write the value out"),
        ("a: !!int 3\n", "a.yaml:1:4: the tag 'tag:yaml.org,2002:int' is not taken; write the value without it"),
        ("a: 1\n---\nb: 2\n", "a.yaml:2:1: a second document starts here; one file holds one"),
        ("%YAML 1.1\n---\na: no\n", "a.yaml:2:1: directives (%YAML, %TAG) are not taken; leave them out"),
        ("- a\n", "a.yaml:1:1: the file holds a list; expected keys with values, one a line, as `name: value`"),
        ("? [a]\n: 1\n", "a.yaml:1:3: the key is a list; expected a name"),
        ("a: 1\n\x07\n", "a.yaml:2:1: the character '\\x07' cannot stand in YAML; take it out"),
        (b"a: Nicol\xf2\n", "a.yaml:1:9: the byte 0xf2 is not UTF-8; save the file as UTF-8"),
        (b"\xef\xbb\xbfa: 1\nb: \xff\n", "a.yaml:2:4: the byte 0xff is not UTF-8; save the file as UTF-8"),
        ("a: " + "[" * 40, "a.yaml:1:23: more than 20 levels; these files have five at most"),
    ],
)
def test_what_these_files_do_not_have_is_refused_where_it_stands(text: str | bytes, mistake: str) -> None:
    assert mistakes(text) == [mistake]


def test_a_file_that_is_too_large_is_not_read() -> None:
    assert mistakes(b"#" * (BYTES_MAX + 1)) == [
        f"a.yaml:1:1: the file has {BYTES_MAX + 1} bytes; at most {BYTES_MAX} are read"
    ]


def test_an_escape_that_makes_the_parser_itself_fail_is_a_mistake() -> None:
    assert len(mistakes('a: "\\UFFFFFFFF"\n')) == 1
