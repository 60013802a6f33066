"""What must agree across the whole house."""

import ast
import re
import subprocess
import sys
from pathlib import Path

from gateway.call_map import call_tree, svg
from gateway.files.phrases import phrases_folder, read_catalogues
from gateway.rehearsal import open_town_in, read_town

HOUSE = Path(__file__).parents[2]


def _tracked(*patterns: str) -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "-z", *patterns], cwd=HOUSE, capture_output=True, text=True, check=True, timeout=60
    )
    return [HOUSE / name for name in listed.stdout.split("\0") if name]


def test_imports_go_down_only() -> None:
    lint = subprocess.run(
        [Path(sys.executable).parent / "lint-imports", "--no-cache"],
        cwd=HOUSE,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )

    assert lint.returncode == 0, lint.stdout


# Where each library lives: whoever replaces one looks in these places and nowhere else.
HOMES = {
    "aiohttp": {"gateway.app", "gateway.web"},
    "aiosmtplib": {"gateway.post"},
    "aiosqlite": {"gateway.store"},
    "alembic": {"gateway.store"},
    "asyncpg": {"gateway.store"},
    "holidays": {"gateway.files"},
    "jinja2": {"gateway.asterisk", "gateway.post"},
    "ntplib": {"gateway.clock"},
    "numpy": {"gateway.audio", "gateway.kokoro"},
    "onnxruntime": {"gateway.kokoro"},
    "panoramisk": {"ivr.agi", "ivr.ami"},
    "phonenumbers": {"gateway.numbers", "gateway.asterisk"},
    "prometheus_client": {"gateway.metrics"},
    "pydantic": {"gateway.files", "gateway.settings"},
    "pydantic_settings": {"gateway.files", "gateway.settings"},
    "pyttsx3": {"gateway.speak"},
    "ruamel": {"gateway.files"},
    "_ruamel_yaml": {"gateway.files"},
    "soxr": {"gateway.audio"},
    "sqlalchemy": {"gateway.store"},
    "stdnum": {"gateway.files"},
    "structlog": {"gateway.logs", "gateway.clock"},
    "watchfiles": {"gateway.files"},
    "weasyprint": {"gateway.post"},
}


def test_each_foreign_library_has_one_home() -> None:
    strays = []
    for path in _tracked("core/*.py", "ivr/*.py", "gateway/*.py"):
        module = ".".join(path.relative_to(HOUSE).with_suffix("").parts)
        for library in _imported(path):
            homes = HOMES.get(library, set())
            if homes and not any(module == home or module.startswith(f"{home}.") for home in homes):
                strays.append(f"{module} imports {library}; its home is {', '.join(sorted(homes))}")

    assert not strays


def _imported(path: Path) -> set[str]:
    """The top-level names that a module imports, wherever in it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {each.name.partition(".")[0] for each in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module.partition(".")[0])
    return names


def test_the_picture_of_the_call_shows_the_call_as_it_is() -> None:
    catalogue = read_catalogues(phrases_folder())["it"]
    municipality, people = read_town(HOUSE / "config", "roccachiara")

    drawn = svg(call_tree(open_town_in(HOUSE / "config"), people, municipality), catalogue)

    assert drawn == (HOUSE / "docs" / "call-map.svg").read_text(encoding="utf-8"), "run `make map`"


def test_locks_hold_hashes_and_no_addresses() -> None:
    locks = _tracked("requirements*.lock")

    assert locks
    for lock in locks:
        text = lock.read_text(encoding="utf-8")
        assert "--hash=sha256:" in text
        assert not re.search(r"https?://|--index-url|--extra-index-url|--find-links", text), lock.name


def test_secrets_and_run_time_files_are_not_tracked() -> None:
    tracked = {path.relative_to(HOUSE).as_posix() for path in _tracked()}

    assert not [name for name in tracked if name.startswith((".run/", ".venv/")) or name.endswith((".key", ".db"))]


def test_every_link_of_the_documents_leads_somewhere() -> None:
    broken = []
    for page in _tracked("*.md"):
        for target in re.findall(r"\]\((?!https?:|mailto:|#)([^)#]+)", page.read_text(encoding="utf-8")):
            if not (page.parent / target).exists():
                broken.append(f"{page.relative_to(HOUSE)}: {target}")

    assert not broken


def test_every_make_command_says_what_it_does() -> None:
    made = subprocess.run(
        ["make", "--no-print-directory"], cwd=HOUSE, capture_output=True, text=True, check=True, timeout=30
    )

    for command in ("run", "test", "setup", "phone", "check", "bench"):
        assert re.search(rf"^  make {command}\s+\S", made.stdout, re.MULTILINE), command
