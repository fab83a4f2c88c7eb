"""A real Chromium without a screen, for tests of pages."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service

from helpers.processes import LIMIT, run

#: Width and height of a desktop and of a phone.
DESKTOP, PHONE = (1280, 900), (390, 844)
#: Version of axe-core, which looks for what keeps people from using a page.
AXE = "4.14.1"


def chromium() -> tuple[str, str] | None:
    """The browser and its driver; None where one is missing."""
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    driver = shutil.which("chromedriver")
    return (browser, driver) if browser and driver else None


@contextmanager
def opened() -> Iterator[webdriver.Chrome]:
    """A browser that keeps console messages and requests; no name can be resolved in it."""
    found = chromium()
    if found is None:
        pytest.skip("no Chromium with its driver here (Debian: chromium, chromium-driver)")
    options = Options()
    options.binary_location = found[0]
    flags = ["--headless=new", "--disable-gpu", "--disable-dev-shm-usage", "--host-resolver-rules=MAP * ~NOTFOUND"]
    for flag in [*flags, *(["--no-sandbox"] if os.geteuid() == 0 else [])]:
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(found[1]))
    driver.command_executor.client_config.timeout = LIMIT
    driver.set_page_load_timeout(LIMIT)
    driver.set_script_timeout(LIMIT)
    try:
        yield driver
    finally:
        driver.quit()


def show(driver: webdriver.Chrome, path: Path, behind: str = "", size: tuple[int, int] = DESKTOP, dark: bool = False):
    """Open a file afresh; ``behind`` follows its address, as in ``#?q=word``."""
    metrics = {"width": size[0], "height": size[1], "deviceScaleFactor": 1, "mobile": size[0] < 500}
    scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
    driver.get("about:blank")
    for log in ("browser", "performance"):
        driver.get_log(log)  # what came before
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": scheme})
    driver.get(path.as_uri() + behind)


def requested(driver: webdriver.Chrome) -> list[str]:
    """The addresses that were requested since the page was opened."""
    import json

    messages: list[dict[str, Any]] = [
        json.loads(entry["message"])["message"] for entry in driver.get_log("performance")
    ]
    return [
        message["params"]["request"]["url"] for message in messages if message["method"] == "Network.requestWillBeSent"
    ]


def serious(driver: webdriver.Chrome) -> list[tuple[str, str, str]]:
    """What axe-core holds against the page that is open, with all its details unfolded: rule, element, why."""
    script = _axe()
    if script is None:
        pytest.skip("no axe-core here, and no npm that can fetch it")
    driver.execute_script("for (const each of document.querySelectorAll('details')) each.open = true")
    driver.execute_script(script)
    found = driver.execute_async_script("axe.run().then(arguments[0])")
    assert len(found["passes"]) > 15
    return [
        (each["id"], node["html"][:200], node["failureSummary"])
        for each in found["violations"]
        if each["impact"] in ("serious", "critical")
        for node in each["nodes"]
    ]


@cache
def _axe() -> str | None:
    """axe-core's script, fetched into the user's cache. Tried once: npm may take a minute to give up."""
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "robustbench-med" / f"axe-core-{AXE}"
    script = folder / "node_modules" / "axe-core" / "axe.min.js"
    npm = shutil.which("npm")
    if npm is not None and not script.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        words = ["install", "--ignore-scripts", "--no-audit", "--no-fund", "--fetch-retries=0", "--prefix", folder]
        run([npm, *words, f"axe-core@{AXE}"], check=False)
    return script.read_text(encoding="utf-8") if script.is_file() else None
