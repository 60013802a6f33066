"""What a benchmark found: ours and a reference that ran in turns with it, so that a busy machine slows both."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Result:
    """`ours` and `reference` are medians in `unit`; `goal` bounds the ratio, None where there is only something to watch."""

    name: str
    what: str
    against: str
    ours: float
    reference: float
    unit: str
    goal: float | None
    better: Literal["higher", "lower"]
    note: str = ""

    @property
    def ratio(self) -> float:
        return self.ours / self.reference

    @property
    def is_met(self) -> bool | None:
        if self.goal is None:
            return None
        return self.ratio >= self.goal if self.better == "higher" else self.ratio <= self.goal

    @property
    def line(self) -> str:
        goal = "" if self.goal is None else f", goal at {'least' if self.better == 'higher' else 'most'} {self.goal:g}"
        mark = {True: "", False: " MISSED", None: ""}[self.is_met]
        note = f" ({self.note})" if self.note else ""
        figures = f"{self.ours:.3g} {self.unit} against {self.reference:.3g}{goal}{mark}"
        return f"{self.name:<9} {self.ratio:6.2f}  {figures}{note}"
