"""Words of the pages: one catalogue for each language, a file `languages/CODE.json` of key to text.

A new language is a new file with the keys of `en.json`; nothing else names languages.
"""

import json
import re
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

COOKIE = "shelfkit_language"
DEFAULT = "en"

_PLACE = re.compile(r"\{(\w+)\}")
_MOST_WISHES = 20


@dataclass(frozen=True, slots=True)
class Catalogue:
    """All words of one language."""

    code: str
    words: dict[str, str]

    def say(self, key: str, **values: object) -> str:
        """Return a text, with values where it has `{name}`."""
        return _PLACE.sub(lambda place: str(values.get(place[1], place[0])), self.words[key])


@cache
def catalogues() -> dict[str, Catalogue]:
    """Return every language there is, by its code."""
    found = {}
    for path in (files("dashboard") / "languages").iterdir():
        if path.name.endswith(".json"):
            code = path.name.removesuffix(".json")
            found[code] = Catalogue(code, json.loads(path.read_text(encoding="utf-8")))
    return dict(sorted(found.items()))


def choose(wished: str | None, accepted: str) -> Catalogue:
    """Return the language to speak.

    Args:
        wished: What the reader chose; None, or a language that is not there, is no choice.
        accepted: The browser's `Accept-Language`.
    """
    known = catalogues()
    if wished in known:
        return known[wished]
    for tag in _by_weight(accepted):
        for code in (tag, tag.partition("-")[0]):
            if code in known:
                return known[code]
    return known[DEFAULT]


def _by_weight(accepted: str) -> list[str]:
    """Return the tags of `Accept-Language`, the dearest first; what is not understood is left out."""
    weighed = []
    for part in accepted.split(",")[:_MOST_WISHES]:
        tag, _, weight = part.partition(";")
        number = re.fullmatch(r"\s*q=([01](?:\.\d{1,3})?)\s*", weight) if weight else None
        value = float(number[1]) if number else (0.0 if weight else 1.0)
        if value > 0:
            weighed.append((value, tag.strip().lower()))
    return [tag for _, tag in sorted(weighed, key=lambda item: -item[0])]
