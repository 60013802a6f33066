"""What must agree across the whole house."""

import re
import subprocess
import sys
from pathlib import Path

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
