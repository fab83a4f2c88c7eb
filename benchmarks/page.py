"""How soon the page of a leaderboard with many records is seen, and how long sorting it takes.

    python benchmarks/page.py --records 10000

Needs Chromium and its driver. Goal: first paint within 1 s for the overview, and within 2 s for a board of thousands.
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
import time
from pathlib import Path

from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service

from leaderboard import make
from robustbench_med.leaderboard.build import write
from robustbench_med.leaderboard.render.page.site import pages
from robustbench_med.leaderboard.sources.folder import read_sources

PAINT = "return performance.getEntriesByName('first-contentful-paint')[0]?.startTime"
LOADED = "return performance.getEntriesByType('navigation')[0].domComplete"
#: Milliseconds of an action until the browser has drawn what came of it.
ACTION = """
const done = arguments[arguments.length - 1], start = performance.now();
{action}
requestAnimationFrame(() => setTimeout(() => done(performance.now() - start)));
"""
SEARCH = """
const q = document.querySelector('[name=q]'); q.value = 'medfedpure';
q.dispatchEvent(new Event('input', {bubbles: true}));
"""
ACTIONS = {
    "sort": "document.querySelector('th[data-key=robust] button').click()",
    "sort the other way": "document.querySelector('th[data-key=robust] button').click()",
    "hide a column": "document.querySelector('[data-cols]').dataset.cols = 'cost'",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=10_000)
    count = parser.parse_args().records
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        make(root, count)
        boards = read_sources(root).boards()
        start = time.perf_counter()
        files = {name: make() for name, make in pages(boards) if not name.startswith("entries/")}
        print(f"pages but those of rows: {time.perf_counter() - start:.2f} s")
        for name, text in files.items():
            print(f"{name:<40} {len(text) / 1e6:.2f} MB")
        write(root, files)
        largest = max((name for name in files if name.startswith("boards/")), key=lambda name: len(files[name]))
        options = Options()
        options.binary_location = shutil.which("chromium") or ""
        for flag in ("--headless=new", "--disable-dev-shm-usage", *(["--no-sandbox"] if os.geteuid() == 0 else [])):
            options.add_argument(flag)
        driver = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
        try:
            driver.set_script_timeout(60)
            for page, actions in (("index.html", {"search": SEARCH}), (largest, ACTIONS)):
                for _ in range(3):
                    driver.get("about:blank")
                    driver.get((root / page).as_uri())
                    said = [f"{page}: first paint {driver.execute_script(PAINT):.0f} ms"]
                    said.append(f"complete {driver.execute_script(LOADED):.0f} ms")
                    for name, action in actions.items():
                        took = driver.execute_async_script(ACTION.replace("{action}", action))
                        said.append(f"{name} {took:.0f} ms")
                    print(", ".join(said))
        finally:
            driver.quit()


if __name__ == "__main__":
    main()
