"""Sorting, filtering and searching the leaderboard in a real Chromium, and what the address says of it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from helpers import board as boards
from helpers.board import build
from helpers.browser import DESKTOP, requested, show
from helpers.page import BOARD, PAGES, settled, status, visible_rows
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

pytestmark = pytest.mark.browser


def test_rows_are_sorted_by_a_click_on_a_heading(driver: Chrome, site: Path) -> None:
    show(driver, site / BOARD)
    table = driver.find_element(By.CSS_SELECTOR, "table.rows")
    head = table.find_element(By.CSS_SELECTOR, "th[data-key=robust]")
    seen = []
    for _ in range(3):
        head.find_element(By.TAG_NAME, "button").click()
        names = [row.text for row in table.find_elements(By.CSS_SELECTOR, "tbody th > a:first-child")]
        seen.append((head.get_attribute("aria-sort"), names))
    rising = ["undefended", "shielded:detector=lid", "medfedpure"]
    assert seen == [("descending", rising[::-1]), ("ascending", rising), (None, rising[::-1])]
    drop = table.find_element(By.CSS_SELECTOR, "th[data-key=drop] button")
    for order in (["shielded:detector=lid", "medfedpure"], ["medfedpure", "shielded:detector=lid"]):
        drop.click()
        names = [row.text for row in table.find_elements(By.CSS_SELECTOR, "tbody th > a:first-child")]
        assert names == [*order, "undefended"], "a row without the figure comes last"
    assert driver.execute_script("return location.hash") == "#?sort=-drop"


def test_rows_are_found_and_filtered_and_the_address_says_how(driver: Chrome, site: Path) -> None:
    show(driver, site / BOARD)
    everything = visible_rows(driver)
    assert everything == ["medfedpure", "shielded:detector=lid", "undefended"]
    search = driver.find_element(By.NAME, "text")
    search.send_keys("FEDMOE lid")
    settled(driver)
    assert visible_rows(driver) == ["shielded:detector=lid"]
    assert status(driver) == "1 of 4 rows"
    address = driver.current_url
    assert address.endswith("#?text=FEDMOE+lid")
    driver.get("about:blank")
    driver.get(address)
    assert visible_rows(driver) == ["shielded:detector=lid"], "the address brings the filter back"
    driver.find_element(By.CSS_SELECTOR, "button[type=reset]").click()
    assert visible_rows(driver) == everything
    show(driver, site / BOARD, "#?client=hospital-1&marks=none")
    assert visible_rows(driver) == ["shielded:detector=lid", "undefended"]
    show(driver, site / BOARD, "#?client=hospital-2&marks=some")
    assert status(driver) == "1 of 4 rows"
    show(driver, site / BOARD, "#?track=static")
    assert (visible_rows(driver), status(driver)) == ([], "0 of 4 rows")


def test_columns_are_chosen(driver: Chrome, site: Path) -> None:
    show(driver, site / BOARD, "#?cols=detector+attackers")
    heads = [
        head.text
        for head in driver.find_elements(By.CSS_SELECTOR, "table.rows thead")[0].find_elements(By.TAG_NAME, "th")
        if head.is_displayed()
    ]
    assert "TPR" in heads
    assert "full" in heads
    assert "bpda" not in heads, "no row has a figure for it"
    assert "Sens." not in heads
    driver.find_element(By.CSS_SELECTOR, "input[value=lesions]").send_keys(Keys.SPACE)
    settled(driver)
    assert "Sens." in driver.find_element(By.CSS_SELECTOR, "table.rows thead").text


def test_a_link_to_a_row_shows_it_wherever_it_is(driver: Chrome, tmp_path: Path) -> None:
    many = [boards.entry(f"d{at:03}", id=f"row-{at}", rank=at + 1) for at in range(130)]
    lost = boards.entry("lost", id="row-lost", ranked=False, rank=None, why_not="no ladder")
    build([boards.board(*many, unranked=(lost,))], tmp_path)
    show(driver, tmp_path / BOARD)
    assert len(visible_rows(driver)) == 100
    assert status(driver) == "131 rows"
    button = driver.find_element(By.CSS_SELECTOR, ".rest button")
    assert button.text == "Show all 130 rows"
    button.click()
    assert len(visible_rows(driver)) == 130
    for row in ("row-121", "row-lost"):
        show(driver, tmp_path / BOARD, f"#{row}")
        place = driver.find_element(By.ID, row)
        assert place.is_displayed()
        assert 0 <= driver.execute_script("return arguments[0].getBoundingClientRect().top", place) < DESKTOP[1]


def test_heads_are_explained_in_every_table(driver: Chrome, tmp_path: Path) -> None:
    made = boards.board(boards.entry("one", id="row-1"))
    second = replace(boards.board(boards.entry("two", id="row-2")).sections[0], id="second")
    build([replace(made, sections=(*made.sections, second))], tmp_path)
    show(driver, tmp_path / BOARD)
    heads = driver.find_elements(By.CSS_SELECTOR, "th[data-key=robust]")
    one, two = (head.get_attribute("title") for head in heads)
    assert one == two != ""


def found(driver: Chrome) -> list[str]:
    return [row.text for row in driver.find_elements(By.CSS_SELECTOR, ".found li a")]


@pytest.mark.parametrize("page", PAGES)
def test_all_boards_are_searched_from_every_page(driver: Chrome, site: Path, page: str) -> None:
    show(driver, site / page)
    driver.find_element(By.NAME, "q").send_keys("MEDFEDPURE 8/255")
    settled(driver)
    assert found(driver) == ["medfedpure"]
    assert all(url.startswith(site.as_uri()) for url in requested(driver))
    assert driver.current_url.endswith("#?q=MEDFEDPURE+8%2F255")
    show(driver, site / page, "#?q=half-done")
    settled(driver)
    assert found(driver) == ["half-done"], "the address brings the search back"
    link = driver.find_element(By.CSS_SELECTOR, ".found li a")
    assert "without a rank" in driver.find_element(By.CSS_SELECTOR, ".found li").text
    link.click()
    assert driver.find_element(By.TAG_NAME, "h1").text == "half-done"


def test_a_threat_is_chosen_and_the_address_says_which(driver: Chrome, site: Path) -> None:
    show(driver, site / "index.html")

    def shown() -> list[str]:
        return [each.text for each in driver.find_elements(By.CSS_SELECTOR, ".panel > h2") if each.is_displayed()]

    assert shown() == ["Best of each kind of defense at Linf 4/255"]
    driver.find_element(By.CSS_SELECTOR, "[data-panel='linf-8-255']").click()
    assert shown() == ["Best of each kind of defense at Linf 8/255"]
    address = driver.current_url
    assert address.endswith("#?threat=linf-8-255")
    driver.get("about:blank")
    driver.get(address)
    assert shown() == ["Best of each kind of defense at Linf 8/255"]


def test_a_hostile_address_is_text(driver: Chrome, site: Path) -> None:
    bad = "%3Cimg src=x onerror=window.taken=1%3E"
    show(driver, site / BOARD, f"#?q={bad}&text={bad}&threat=%22%3E&cols=%22%3E&sort=__proto__")
    settled(driver)
    assert status(driver) == "0 of 4 rows"
    assert driver.find_element(By.CSS_SELECTOR, ".found [role=status]").text.startswith("0 of 5 rows on all boards")
    show(driver, site / "index.html", f"#?q={bad}&threat=__proto__")
    assert driver.execute_script("return window.taken ?? null") is None
    assert json.loads(driver.execute_script("return JSON.stringify([...document.images].length)")) == 0
