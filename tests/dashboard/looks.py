"""What can be told of a page by looking at it in a browser: axe-core, widths, words, where the keys lead."""

import re
from collections.abc import Iterable
from functools import cache
from typing import Any

from playwright.sync_api import Page

from dashboard.pages import language
from tests.test_reference import installed

AXE = "axe-core@4.14.1"
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]

_SHORTEST = 4
_KEY = re.compile(r"[a-z]+(\.[a-z0-9-]+)+")
_FOREIGN = re.compile(r"[A-Za-z]{2,}[,:;.]? +[A-Za-z]{2,}")
_CHINESE = re.compile(r"[\u4e00-\u9fff]")

_CUT_OFF = """() => {
  const scrolls = (e) => e && (/auto|scroll/.test(getComputedStyle(e).overflowX) || scrolls(e.parentElement));
  const found = [];
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) {
    const [node, parent] = [walk.currentNode, walk.currentNode.parentElement];
    if (!node.data.trim() || parent.closest("script, svg, .hidden, .skip") || scrolls(parent)) continue;
    const range = document.createRange();
    range.selectNodeContents(node);
    for (const box of range.getClientRects()) {
      const own = parent.closest("section, .card, li, td, th, button, p, main")?.getBoundingClientRect();
      const beyond = box.right > innerWidth + 1 || box.left < -1 || (own && box.right > own.right + 1.5);
      if (box.width && beyond) found.push(`${parent.tagName} ${node.data.trim().slice(0, 60)}`);
    }
  }
  const wide = document.documentElement.scrollWidth - innerWidth;
  return wide > 0 ? [`the page is ${wide} px too wide`, ...found] : found;
}"""

_WORDS = """() => {
  const found = [document.title];
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) {
    const [node, parent] = [walk.currentNode, walk.currentNode.parentElement];
    if (!parent.closest("script, style, datalist") && parent.checkVisibility()) found.push(node.data);
  }
  for (const name of ["aria-label", "title", "placeholder", "alt"])
    for (const one of document.querySelectorAll(`[${name}]`)) found.push(one.getAttribute(name));
  return [...new Set(found.map((text) => text.trim()).filter(Boolean))];
}"""

_KEYS_LEAD_TO = """() => {
  const all = [...document.querySelectorAll("a[href], button, input, select, textarea, summary, [tabindex]")];
  const open = (e) => e.tabIndex >= 0 && !e.disabled && e.type !== "hidden" && e.checkVisibility();
  window.waiting = new Set(all.filter(open));
  // From the first of them on, wherever somebody was before.
  all[0].focus();
  window.waiting.delete(all[0]);
  return window.waiting.size;
}"""

_HERE = """() => {
  const here = document.activeElement;
  if (here === document.body) return null;
  window.waiting?.delete(here);
  const name = `${here.tagName} ${here.ariaLabel ?? here.id ?? ""} ${(here.innerText ?? "").slice(0, 40)}`;
  const drawn = here.matches("#canvas *") ? here.querySelector("polygon:not(.edge)") ?? here : null;
  const style = getComputedStyle(drawn ?? here);
  // Slots and handles on a picture are drawn in a colour that nothing else there has.
  const ring = drawn
    ? style.stroke === "rgb(255, 211, 77)" && parseFloat(style.strokeWidth) >= 3
    : style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2;
  const box = here.getBoundingClientRect();
  const within = box.bottom > 0 && box.top < innerHeight && box.right > 0 && box.left < innerWidth;
  return { name, wrong: [ring ? "" : "no ring", within ? "" : "out of sight"].filter(Boolean).join(", ") };
}"""


@cache
def _axe() -> str:
    return (installed(AXE) / "node_modules" / "axe-core" / "axe.min.js").read_text(encoding="utf-8")


def violations(page: Page) -> list[str]:
    """Return what axe has against a page; it is run beside the page's policy, which allows no such script."""
    page.evaluate(_axe())
    found = page.evaluate("rules => axe.run({runOnly: rules})", RULES)
    return [f"{item['id']}: {node['html'][:150]}" for item in found["violations"] for node in item["nodes"]]


def cut_off(page: Page) -> list[str]:
    """Return what is wider than its place: texts that nobody can scroll to, or the page itself."""
    found: list[str] = page.evaluate(_CUT_OFF)
    return found


def untranslated(page: Page, code: str, names: Iterable[str]) -> list[str]:
    """Return texts of a page that are keys, or of another language than the page's.

    Args:
        page: To look at.
        code: Its language, one that is not written in Latin letters.
        names: What devices and people have named, in whatever language.
    """
    known = re.compile("|".join(map(re.escape, sorted(names, key=len, reverse=True))))
    return [text for text in page.evaluate(_WORDS) if _is_foreign(known.sub("·", text), code)]


def _is_foreign(text: str, code: str) -> bool:
    found = _KEY.fullmatch(text) or _pieces(code).search(text)
    return bool(found) or (bool(_FOREIGN.search(text)) and not _CHINESE.search(text))


@cache
def _pieces(code: str) -> re.Pattern[str]:
    """Return a pattern of everything that English says and this language says in other words."""
    english, own = (language.catalogues()[one].words for one in ("en", code))
    pieces = {
        piece.strip(" .,:;()")
        for key, text in english.items()
        if text != own[key] and key != "language.name"
        for piece in re.split(r"{\w+}", text)
    }
    spoken = [piece for piece in pieces if len(piece) >= _SHORTEST and piece not in "".join(own.values())]
    return re.compile(rf"\b(?:{'|'.join(map(re.escape, sorted(spoken, key=len, reverse=True)))})\b")


def out_of_reach(page: Page) -> list[str]:
    """Go through a page by Tab alone; return what that does not reach, and where nobody sees it."""
    count = page.evaluate(_KEYS_LEAD_TO)
    found = []
    for _ in range(count + 2):
        page.keyboard.press("Tab")
        here = page.evaluate(_HERE)
        if here is None:
            break
        if here["wrong"]:
            found.append(f"{here['name']}: {here['wrong']}")
    # What closes by itself when one goes on is not there any more.
    missed = page.evaluate("[...window.waiting].filter((e) => e.checkVisibility()).map((e) => e.outerHTML)")
    return [*found, *(f"never reached: {text[:120]}" for text in missed)]


def here(page: Page) -> dict[str, Any] | None:
    """Return what has the focus, and what is wrong with it; None where nothing has it."""
    found: dict[str, Any] | None = page.evaluate(_HERE)
    return found
