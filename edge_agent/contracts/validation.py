"""What pydantic found wrong, in one short line for a person."""

import json
import math
from typing import Any

from pydantic import ValidationError

_SHOWN = 5
_DEEPEST = 64


def strict_json(payload: bytes) -> Any:  # noqa: ANN401 - whatever came over the wire
    """Read JSON as RFC 8259 has it: UTF-8, no NaN; and nothing that a database or a browser refuses.

    Raises:
        ValueError: It is something else.
    """
    value = READER.decode(payload.decode("utf-8"))
    _not_deep(value)
    text = json.dumps(value, ensure_ascii=False)
    text.encode("utf-8")  # half of a surrogate pair cannot be
    if "\\u0000" in text:
        msg = "a NUL character"
        raise ValueError(msg)
    return value


def _not_deep(value: Any) -> None:  # noqa: ANN401 - JSON
    """Refuse nesting that a database refuses."""
    level = [value] if isinstance(value, (dict, list)) else []
    for _ in range(_DEEPEST):
        inner = (item.values() if isinstance(item, dict) else item for item in level)
        level = [child for items in inner for child in items if isinstance(child, (dict, list))]
        if not level:
            return
    msg = f"more than {_DEEPEST} levels"
    raise ValueError(msg)


def _no_number(text: str) -> None:
    msg = f"{text}, which is no JSON"
    raise ValueError(msg)


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        msg = f"{text:.20}, which is too large"
        raise ValueError(msg)
    return number


READER = json.JSONDecoder(parse_constant=_no_number, parse_float=_finite)
"""Reads JSON without NaN and without numbers that no computer holds; texts and nesting are as they are."""


def explain(error: Exception) -> str:
    """Return `path: what is wrong` for the first problems of a validation error, or the error's own words."""
    if not isinstance(error, ValidationError):
        return str(error)[:300] or type(error).__name__
    problems = error.errors(include_url=False, include_input=False)
    told = [
        f"{'.'.join(map(str, item['loc'])) or 'value'}: {item['msg'].removeprefix('Value error, ')}"
        for item in problems
    ]
    more = [f"and {len(told) - _SHOWN} more"] if len(told) > _SHOWN else []
    return "; ".join(told[:_SHOWN] + more)
