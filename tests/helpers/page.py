"""The leaderboard's page of the example boards, as a browser shows it."""

from __future__ import annotations

from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By

ROW = "entries/brainsim-linf-4-255.medfedpure.html"
BOARD = "boards/brainsim-linf-4-255.html"
STUDY = "studies/certified.html"
PAGES = ["index.html", "about.html", BOARD, ROW, STUDY, "studies/corruptions.html", "studies/attacks.html"]


def visible_rows(driver: Chrome) -> list[str]:
    """Names of the rows that are seen, from top to bottom."""
    seen = (
        "[...document.querySelectorAll('table.rows tbody th > a:first-child')].filter((row) => row.checkVisibility())"
    )
    return driver.execute_script(f"return {seen}.map((row) => row.textContent)")


def status(driver: Chrome) -> str:
    return driver.find_element(By.CSS_SELECTOR, ".filters [role=status]").text


def settled(driver: Chrome) -> None:
    """Filters wait a moment for the next letter."""
    driver.execute_async_script("setTimeout(arguments[0], 200)")
