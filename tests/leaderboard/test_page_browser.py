"""The page of the leaderboard in a real Chromium."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from helpers import board as boards
from helpers.board import build, gallery
from helpers.browser import DESKTOP, PHONE, requested, serious, show
from helpers.page import BOARD, PAGES, ROW, settled, visible_rows
from PIL import Image
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

from robustbench_med.leaderboard.entry import Claim, Mark, Paper
from robustbench_med.leaderboard.render.page.figures import DASH

pytestmark = pytest.mark.browser


@pytest.mark.parametrize("page", PAGES)
def test_loads_without_errors_and_without_a_request_to_elsewhere(driver: Chrome, site: Path, page: str) -> None:
    show(driver, site / page)
    asked = requested(driver)
    assert len(asked) == 3  # page, style sheet, script
    assert all(url.startswith(site.as_uri()) for url in asked)
    assert [entry["message"] for entry in driver.get_log("browser")] == []
    assert driver.execute_script("return getComputedStyle(document.body).marginTop") == "0px", "no style sheet"


def test_a_row_leads_to_its_page_and_back(driver: Chrome, site: Path) -> None:
    show(driver, site / BOARD)
    driver.find_element(By.CSS_SELECTOR, f"table.rows a[href='../{ROW}']").click()
    assert driver.current_url == (site / ROW).as_uri()
    assert driver.find_element(By.TAG_NAME, "h1").text == "medfedpure"
    driver.execute_cdp_cmd("Browser.grantPermissions", {"permissions": ["clipboardReadWrite"]})
    copy = driver.find_element(By.CSS_SELECTOR, "button.copy")
    copy.click()
    settled(driver)
    assert copy.text in ("Copied", "Selected")
    driver.find_element(By.LINK_TEXT, "this row").click()
    assert driver.current_url.endswith(f"{BOARD}#brainsim-linf-4-255.medfedpure")


def test_the_keyboard_reaches_everything(driver: Chrome, site: Path) -> None:
    show(driver, site / BOARD)
    seen = set()
    for _ in range(80):
        driver.switch_to.active_element.send_keys(Keys.TAB)
        here = driver.switch_to.active_element
        seen.add((here.tag_name, here.get_attribute("name") or here.text.strip()))
    assert ("a", "Skip to the content") in seen
    assert {
        ("input", "q"),
        ("input", "text"),
        ("select", "track"),
        ("button", "Worst case"),
        ("a", "shielded:detector=lid"),
    } <= seen


def test_nothing_needs_the_script(site: Path, driver: Chrome) -> None:
    driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        show(driver, site / BOARD)
        assert len(visible_rows(driver)) == 3
        assert not driver.find_element(By.CSS_SELECTOR, ".filters").is_displayed()
    finally:
        driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})


@pytest.mark.parametrize("page", PAGES)
def test_docs_data_submission_and_citation_are_one_click_away(driver: Chrome, site: Path, page: str) -> None:
    show(driver, site / page, size=PHONE)
    links = driver.find_elements(By.CSS_SELECTOR, ".top nav > a")
    seen = [link.text for link in links if link.is_displayed() and link.rect["x"] + link.rect["width"] <= PHONE[0]]
    assert seen[-5:] == ["How to read", "Submit", "Cite", "Data", "Docs"]


@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
@pytest.mark.parametrize("page", PAGES)
def test_the_page_itself_never_scrolls_sideways(driver: Chrome, site: Path, page: str, size: tuple[int, int]) -> None:
    show(driver, site / page, size=size)
    assert driver.execute_script("return document.documentElement.scrollWidth") <= size[0]


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
@pytest.mark.parametrize("page", PAGES)
def test_axe_finds_nothing_serious(driver: Chrome, site: Path, page: str, size: tuple[int, int], dark: bool) -> None:
    show(driver, site / page, size=size, dark=dark)
    assert serious(driver) == []


HOSTILE = (
    "<script>window.taken = 1</script>",
    '"><img src=x onerror="window.taken = 1">',
    "' onmouseover='window.taken = 1",
    "</style></title></script><svg onload=window.taken=1>",
    "{{ 7 * 7 }}${7*7}",
    "&lt;b&gt;",
)


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_names_are_text(driver: Chrome, tmp_path: Path, text: str) -> None:
    bad = Claim(text, text, text, 0.5, 0.5, text, "javascript:window.taken=1", text)
    told = boards.record(
        clients=[text],
        defense={"name": text, "params_passed": {text: text}},
        provenance={"commit": text},
        dataset={"name": text, "params_passed": {}, "synthetic": False, "classes": [text, text], "notes": [text]},
    )
    entry = boards.entry(
        text,
        id="hostile",
        defense_name=text,
        strategy=text,
        strategy_full=text,
        model=text,
        clients=(text,),
        unseen=(text,),
        worst_client=text,
        per_client={text: {"clean": boards.share(0.5)}},
        claims=(bad,),
        marks=(Mark("a-mark", text),),
        paper=Paper(text, "javascript:window.taken=1"),
        records=(told,),
        lowered=(text,),
    )
    lost = replace(entry, id="hostile-2", ranked=False, rank=None, why_not=text)
    board = replace(boards.board(entry, unranked=(lost,), claims=(bad,)), dataset=text, licence=text, partition=text)
    build([board], tmp_path)
    (board_page,) = (path.relative_to(tmp_path).as_posix() for path in (tmp_path / "boards").iterdir())
    for page in ("index.html", "about.html", board_page, "entries/hostile.html", "entries/hostile-2.html"):
        file = tmp_path / page
        html = file.read_text(encoding="utf-8")
        policy = html[html.index("<meta http-equiv=Content-Security-Policy") :].partition("\n")[0]
        file.write_text(html.replace(policy, ""), encoding="utf-8")  # escaping must do without it
        show(driver, file)
        if page == board_page:
            assert text in visible_rows(driver)
        driver.find_element(By.NAME, "q").send_keys(text)
        settled(driver)
        assert text in driver.find_element(By.CSS_SELECTOR, ".found").text
        assert text in driver.find_element(By.TAG_NAME, "main").text
        assert driver.execute_script("return window.taken ?? null") is None
        assert len(driver.find_elements(By.CSS_SELECTOR, "script, img, svg[onload], [onerror], [onmouseover]")) == 2
        assert not driver.find_elements(By.CSS_SELECTOR, "a[href^='javascript:' i]")
        assert driver.get_log("browser") == []


def test_columns_that_matter_are_seen_on_a_phone(driver: Chrome, site: Path) -> None:
    show(driver, site / BOARD, size=PHONE)
    row = driver.find_element(By.CSS_SELECTOR, "table.rows tbody tr")
    cells = [cell for cell in row.find_elements(By.CSS_SELECTOR, "td, th") if cell.is_displayed()]
    rank, name, clean, worst = (cell.text for cell in cells)
    assert (rank, name.splitlines()[0], clean, worst.split()) == ("1", "medfedpure", "95.0", ["50.0", f"40{DASH}60"])
    assert all(cell.rect["x"] + cell.rect["width"] <= PHONE[0] for cell in cells), "without scrolling sideways"


@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_the_heads_stay_in_sight(driver: Chrome, tmp_path: Path, size: tuple[int, int]) -> None:
    many = [boards.entry(f"d{at:03}", id=f"row-{at}", rank=at + 1) for at in range(60)]
    build([boards.board(*many)], tmp_path)
    show(driver, tmp_path / BOARD, size=size)
    driver.execute_script("document.getElementById('row-50').scrollIntoView()")
    settled(driver)
    tops = [driver.find_element(By.CSS_SELECTOR, name).rect for name in (".top", ".where", "table.rows thead th")]
    seen = [rect["y"] - driver.execute_script("return scrollY") for rect in tops]
    assert driver.find_element(By.NAME, "q").rect["y"] > driver.execute_script("return scrollY"), (
        "search stays in sight"
    )
    assert abs(seen[1] - seen[0] - tops[0]["height"]) <= 2
    assert 0 <= seen[2] - seen[1] - tops[1]["height"] + 8 <= 12, "the table's head is right below"


def test_an_image_is_enlarged(driver: Chrome, tmp_path: Path) -> None:
    Image.new("RGB", (320, 64)).save(gallery(tmp_path) / "1.png")
    build(boards.full(), tmp_path)
    show(driver, tmp_path / ROW)
    small = driver.find_element(By.CSS_SELECTOR, "button.enlarge img")
    before = small.rect["width"]
    small.click()
    dialog = driver.find_element(By.TAG_NAME, "dialog")
    assert dialog.find_element(By.TAG_NAME, "img").rect["width"] > before
    assert "Answer of the system" in dialog.text
    assert serious(driver) == []
    dialog.find_element(By.CSS_SELECTOR, "button").click()
    WebDriverWait(driver, 60).until_not(lambda browser: browser.find_elements(By.TAG_NAME, "dialog"))
    assert driver.current_url == (tmp_path / ROW).as_uri()
