"""How soon the page of a leaderboard with many records is seen, and how long sorting it takes.

    python benchmarks/page.py --records 10000

Needs Chromium and its driver. Goal: first paint within 2 s.
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
from robustbench_med.leaderboard.render.page.site import HERE, index
from robustbench_med.leaderboard.sources.folder import read_sources

PAINT = "return performance.getEntriesByName('first-contentful-paint')[0]?.startTime"
LOADED = "return performance.getEntriesByType('navigation')[0].domComplete"
#: Milliseconds of an action until the browser has drawn what came of it.
ACTION = """
const done = arguments[arguments.length - 1], start = performance.now();
{action}
requestAnimationFrame(() => setTimeout(() => done(performance.now() - start)));
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
        files = {f"assets/{name}": (HERE / name).read_text(encoding="utf-8") for name in ("page.css", "page.js")}
        files["index.html"] = index(boards)
        print(f"index of {count} records: {time.perf_counter() - start:.2f} s, {len(files['index.html']) / 1e6:.1f} MB")
        write(root, files)
        options = Options()
        options.binary_location = shutil.which("chromium") or ""
        for flag in ("--headless=new", "--disable-dev-shm-usage", *(["--no-sandbox"] if os.geteuid() == 0 else [])):
            options.add_argument(flag)
        driver = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
        try:
            driver.set_script_timeout(60)
            for _ in range(3):
                driver.get("about:blank")
                driver.get((root / "index.html").as_uri())
                said = [f"first paint {driver.execute_script(PAINT):.0f} ms"]
                said.append(f"complete {driver.execute_script(LOADED):.0f} ms")
                for name, action in ACTIONS.items():
                    took = driver.execute_async_script(ACTION.replace("{action}", action))
                    said.append(f"{name} {took:.0f} ms")
                print(", ".join(said))
        finally:
            driver.quit()


if __name__ == "__main__":
    main()
