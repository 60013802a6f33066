"""A generated installation: invented towns on disk, and their people, changes and closings in a database."""

from gateway.generation.filling import (
    PLAN_SETTING,
    FilledTable,
    Filling,
    GenerationRefusedError,
    fill,
    write_configuration,
)
from gateway.generation.plan import ROME, Callers, GeneratedCaller, Plan, Towns, generated_caller

__all__ = [
    "PLAN_SETTING",
    "ROME",
    "Callers",
    "FilledTable",
    "Filling",
    "GeneratedCaller",
    "GenerationRefusedError",
    "Plan",
    "Towns",
    "fill",
    "generated_caller",
    "write_configuration",
]
