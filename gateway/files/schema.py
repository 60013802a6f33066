"""JSON Schemas of the YAML files, for editors that complete and check; `python -m gateway.files.schema` writes them anew."""

import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pydantic import BaseModel

from gateway.files.shapes import CalendarShape, MunicipalityShape, SchoolsShape, Shape
from gateway.settings import SettingsFile

FOLDER = Path(__file__).resolve().parents[2] / "config" / "schema"
MODELS: Mapping[str, type[BaseModel]] = MappingProxyType(
    {
        "gateway": SettingsFile,
        "municipality": MunicipalityShape,
        "schools": SchoolsShape,
        "calendar": CalendarShape,
    }
)


def json_schema(name: str) -> str:
    """The schema of `name`.yaml as the text of a file."""
    model = MODELS[name]
    found = model.model_json_schema()
    _require(found, model)
    for definition in found.get("$defs", {}).values():
        _require(definition, _shape_called(definition.get("title")))
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **_without_nothing(found),
        "title": f"{name}.yaml",
    }
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def write_schemas(folder: Path = FOLDER) -> list[Path]:
    """Write every schema into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name in MODELS:
        file = folder / f"{name}.json"
        file.write_text(json_schema(name), encoding="utf-8")
        written.append(file)
    return written


def _shape_called(title: str | None) -> type[BaseModel] | None:
    return next((each for each in Shape.__subclasses__() if each.__name__ == title), None)


def _require(schema: dict[str, Any], model: type[BaseModel] | None) -> None:
    # The models let everything be missing, so that a file with a mistake can still be looked at.
    if model is not None and issubclass(model, Shape) and model.REQUIRED:
        schema["required"] = list(model.REQUIRED)


def _without_nothing(schema: Any) -> Any:
    """Without the None that stands in the models for a key that is not in the file."""
    match schema:
        case dict():
            kept = {key: _without_nothing(value) for key, value in schema.items() if not _is_noise(key, value)}
            options = [each for each in kept.get("anyOf", []) if each != {"type": "null"}]
            if "anyOf" not in kept or len(options) > 1:
                return kept
            kept.pop("anyOf")
            return {**kept, **(options[0] if options else {})}
        case list():
            return [_without_nothing(each) for each in schema]
        case _:
            return schema


def _is_noise(key: str, value: object) -> bool:
    """What pydantic adds for itself: titles made from names, and defaults of whole tables."""
    return (key == "title" and isinstance(value, str)) or (
        key == "default" and (value is None or isinstance(value, dict) or value == [])
    )


if __name__ == "__main__":
    write_schemas()
