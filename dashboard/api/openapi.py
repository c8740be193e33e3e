"""The OpenAPI 3.1 document of the API, made from its operations and their models."""

import re
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from dashboard.api.models import Problem, Question
from dashboard.api.operations import OPERATIONS, PREFIX, Operation

Json = dict[str, Any]

_REF = "#/components/schemas/{model}"
_PROBLEMS = {
    400: "A question that makes no sense.",
    401: "Nobody is logged in, and no token came along.",
    404: "Nothing of that name.",
    503: "The database is away.",
}


def document() -> Json:
    """Return the document."""
    responses: list[type[BaseModel]] = list(
        dict.fromkeys([*(operation.response for operation in OPERATIONS), Problem])
    )
    names, definitions = models_json_schema([(model, "validation") for model in responses], ref_template=_REF)
    schemas = {model: names[model, "validation"] for model in responses}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "shelfkit dashboard",
            "version": "1",
            "description": "What the recorder has, read only. Version 1 only ever gains fields.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "paths": {PREFIX + item.path: {"get": _operation(item, schemas)} for item in OPERATIONS},
        # A recorder that runs without log-in asks for none.
        "security": [{"token": []}, {}],
        "components": {
            "schemas": definitions["$defs"],
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def _operation(operation: Operation, schemas: dict[Any, Json]) -> Json:
    content: Json = {media: {"schema": schemas[operation.response]} for media in operation.media}
    if operation.exported:
        content |= {media: {"schema": {"type": "string"}} for media in ("text/csv", "application/x-ndjson")}
    problem = {"application/problem+json": {"schema": schemas[Problem]}}
    answers: Json = {"200": {"description": "As asked.", "content": content}}
    answers |= {
        str(code): {"description": text, "content": problem}
        for code, text in _PROBLEMS.items()
        if code != 404 or operation.path_model.model_fields  # noqa: PLR2004 - the status itself
    }
    path = _parameters(operation.path_model, "path")
    return {
        "operationId": operation.answer.__name__,
        "summary": (operation.answer.__doc__ or "").strip(),
        "parameters": path + _parameters(operation.query, "query"),
        "responses": answers,
    }


def _parameters(model: type[Question], place: str) -> list[Json]:
    """Return the fields of a model as parameters; what may be left out is not null there, but absent."""
    schema = model.model_json_schema(ref_template=_REF)
    defined = schema.get("$defs", {})
    found = []
    for name, given in schema.get("properties", {}).items():
        value = _inlined(given, defined)
        required = place == "path" or name in schema.get("required", [])
        found.append(
            {
                "name": name,
                "in": place,
                "required": required,
                **({"description": text} if (text := value.pop("description", None)) else {}),
                "schema": value,
            }
        )
    return found


def _inlined(value: Json, defined: Json) -> Json:
    """Return a field's schema without references and without the alternative null."""
    value = {key: item for key, item in value.items() if key != "title" and item is not None}
    options = [item for item in value.pop("anyOf", []) if item != {"type": "null"}]
    for option in options:
        value = {**option, **value}
    reference = value.pop("$ref", None)
    if reference is not None:
        value = {**defined[re.sub(r".*/", "", reference)], **value}
        value.pop("title", None)
        value.pop("description", None)
    return value
