"""What pydantic found wrong, in one short line for a person."""

from pydantic import ValidationError

_SHOWN = 5


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
