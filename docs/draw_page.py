"""Take `page.png` and `page_phone.png`: the page of a server that runs, with a real answer of its first model.

    hf-reason demo
    hf-reason serve --model_name_or_path outputs/demo/demo outputs/demo/demo_direct
    python docs/draw_page.py http://127.0.0.1:8000 docs

Needs the extra `test-browser` and a Chromium on the PATH.
"""

import shutil
import sys

from playwright.sync_api import sync_playwright

QUESTION = "小明有12个苹果,又买来25个,卖出8个。现在有多少个苹果?"
SIZES = {"page": (1280, 800, "zh-CN", "light"), "page_phone": (390, 844, "zh-CN", "dark")}


def main(url: str, folder: str) -> None:
    with sync_playwright() as driver:
        program = shutil.which("chromium") or shutil.which("google-chrome")
        browser = driver.chromium.launch(executable_path=program, args=["--no-sandbox", "--disable-gpu"])
        for name, (width, height, locale, scheme) in SIZES.items():
            page = browser.new_context(
                viewport={"width": width, "height": height}, locale=locale, color_scheme=scheme
            ).new_page()
            page.goto(url)
            page.wait_for_selector("#model option", state="attached")
            page.fill("#question", QUESTION)
            page.press("#question", "Enter")
            page.wait_for_selector(".figures:not([hidden])", timeout=120_000)
            page.evaluate("document.activeElement.blur()")
            page.wait_for_timeout(500)  # the last step has risen to its place
            page.screenshot(path=f"{folder}/{name}.png", full_page=True)
        browser.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
