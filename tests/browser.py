"""A real Chromium without a screen, for tests of pages."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service

#: Width and height of a desktop and of a phone.
DESKTOP, PHONE = (1280, 900), (390, 844)


def chromium() -> tuple[str, str] | None:
    """The browser and its driver; None where one is missing."""
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    driver = shutil.which("chromedriver")
    return (browser, driver) if browser and driver else None


@contextmanager
def opened() -> Iterator[webdriver.Chrome]:
    """A browser that keeps what is said in the console and what is requested; no name can be resolved in it."""
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
    """The addresses that were asked for since the page was opened."""
    import json

    messages: list[dict[str, Any]] = [
        json.loads(entry["message"])["message"] for entry in driver.get_log("performance")
    ]
    return [
        message["params"]["request"]["url"] for message in messages if message["method"] == "Network.requestWillBeSent"
    ]
