"""What a caller was asked to confirm, as text that Asterisk keeps while the question is open (R18).

Whoever keys 1 and hangs up in the same moment has made the change, even when the gateway that asked is gone: the hangup
handler hands this text to any gateway, which completes the request once. The text holds surrogate ids only.
"""

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from core.changes import ChangeId, Kind
from core.clock import Reading
from core.desk import Action, Bland, Cancel, Resume, Suspend, Undo
from core.people import GuardianId, PupilId

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_VERSION = "1"
# One call acts for at most as many pupils as one key can choose among.
ASKED_MAX = 9


class NotPendingError(ValueError):
    """The text is none that `Pending.text` made."""


@dataclass(frozen=True, slots=True)
class Pending:
    """`asked_at` is the earliest instant at which the confirming key can have been pressed; `key` the idempotency key."""

    town: str
    key: str
    session: str
    guardian: GuardianId
    asked_at: datetime
    actions: tuple[tuple[PupilId, Action], ...]

    def text(self) -> str:
        """One line of `[0-9A-Za-z;:,._-]`, so that no layer between has anything to quote."""
        asked = (self.asked_at - _EPOCH) // timedelta(microseconds=1)
        actions = ",".join(f"{pupil}:{_action_text(action)}" for pupil, action in self.actions)
        return ";".join((_VERSION, self.town, self.key, self.session, str(self.guardian), str(asked), actions))

    @classmethod
    def parse(cls, text: str) -> "Pending":
        """Raises `NotPendingError` with the text's beginning."""
        try:
            version, town, key, session, guardian, asked, actions = text.split(";")
            if version != _VERSION or not town or not key or not session:
                raise ValueError(version)
            pairs = [pair.split(":", 1) for pair in actions.split(",")]
            if len(pairs) > ASKED_MAX:
                raise ValueError(f"{len(pairs)} pupils")
            return cls(
                town,
                key,
                session,
                GuardianId(int(guardian)),
                _EPOCH + timedelta(microseconds=int(asked)),
                tuple((PupilId(int(pupil)), _parse_action(action)) for pupil, action in pairs),
            )
        except (ValueError, OverflowError) as error:
            raise NotPendingError(f"not a pending request: {text[:40]!r}") from error

    def decided(self, now: Reading) -> Reading:
        """The key was pressed between the question and `now`: doubt goes to the family (R10)."""
        return Reading(min(self.asked_at, now.earliest), now.latest, now.source, now.synchronised)


def _action_text(action: Action) -> str:
    match action:
        case Cancel(day):
            return f"{Kind.CANCEL}:{day}"
        case Bland(day):
            return f"{Kind.BLAND}:{day}"
        case Suspend(first, until):
            return f"{Kind.SUSPEND}:{first}:{until or ''}"
        case Resume(first):
            return f"{Kind.RESUME}:{first}"
        case Undo(covered, change):
            return f"{Kind.UNDO}:{covered or ''}:{'' if change is None else change}"


def _parse_action(text: str) -> Action:
    match text.split(":"):
        case [Kind.CANCEL, day]:
            return Cancel(date.fromisoformat(day))
        case [Kind.BLAND, day]:
            return Bland(date.fromisoformat(day))
        case [Kind.SUSPEND, first, until]:
            return Suspend(date.fromisoformat(first), date.fromisoformat(until) if until else None)
        case [Kind.RESUME, first]:
            return Resume(date.fromisoformat(first))
        case [Kind.UNDO, covered, change]:
            return Undo(date.fromisoformat(covered) if covered else None, ChangeId(int(change)) if change else None)
        case _:
            raise ValueError(text)
