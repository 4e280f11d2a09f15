"""Take `prepare_report.png`: the report of `hf-reason prepare` on the built-in traces, at its records.

    hf-reason prepare --dataset_name hf_reason/data/sample --output_dir outputs/sample
    python docs/draw_report.py outputs/sample/report.html docs

Needs the extra `test-browser` and a Chromium on the PATH.
"""

import shutil
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright


def main(report: str, folder: str) -> None:
    with sync_playwright() as driver:
        program = shutil.which("chromium") or shutil.which("google-chrome")
        browser = driver.chromium.launch(executable_path=program, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_context(viewport={"width": 1180, "height": 900}, locale="zh-CN").new_page()
        page.goto(f"{Path(report).resolve().as_uri()}#records")
        page.select_option("select[name=domain]", "math")
        page.evaluate("document.querySelector('#records').scrollIntoView()")
        page.wait_for_timeout(300)
        page.screenshot(path=f"{folder}/prepare_report.png")
        browser.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
