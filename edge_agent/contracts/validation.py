"""What pydantic found wrong, in one short line for a person."""

import json
from typing import Any

from pydantic import ValidationError

_SHOWN = 5


def strict_json(payload: bytes) -> Any:  # noqa: ANN401 - whatever came over the wire
    """Read JSON as RFC 8259 has it: UTF-8, no NaN; and no text that a database refuses.

    Raises:
        ValueError: It is something else.
    """
    value = json.loads(payload.decode("utf-8"), parse_constant=_no_number)
    text = json.dumps(value, ensure_ascii=False)
    text.encode("utf-8")  # half of a surrogate pair cannot be
    if "\\u0000" in text:
        msg = "a NUL character"
        raise ValueError(msg)
    return value


def _no_number(text: str) -> None:
    msg = f"{text}, which is no JSON"
    raise ValueError(msg)


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
