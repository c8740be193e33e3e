"""Take a picture of a page: of the store while the demo runs, or of a report of training.

Usage: python docs/screenshot.py ADDRESS PICTURE [light|dark] [WIDTHxHEIGHT]
       python docs/screenshot.py http://127.0.0.1:8080/stores/0417 docs/pictures/dashboard.png
       python docs/screenshot.py file:///home/me/run/report.html docs/pictures/report.png light 1180x980
"""

import shutil
import sys

from playwright.sync_api import sync_playwright

QUIET = (
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-sync",
)


def main(address: str, picture: str, scheme: str = "light", size: str = "1360x860") -> None:
    """Open the page, wait until a slot is drawn, and save a picture of what is on the screen."""
    width, height = map(int, size.split("x"))
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=[*QUIET])
        page = browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)  # type: ignore[arg-type]
        page.goto(address)
        page.wait_for_selector("svg polygon, svg path, svg rect", state="attached")
        page.wait_for_timeout(1500)
        page.screenshot(path=picture)
        browser.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
