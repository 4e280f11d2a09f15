"""The report's page in headless Chromium: mouse, keyboard and phone, both languages, hostile data."""

import json

import pytest

from hf_reason.data import FilterConfig, prepare

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

HOSTILE = '</script><script>document.title="x"</script><img src=x onerror="document.title=1">'


def trace(n, **changes):
    steps = [f"先看原来的数量,有{n + 20}个。", f"再看新买的,有{n}个。", f"合起来{n + 20}+{n}={2 * n + 20}个。"]
    question = f"小明有{n + 20}个苹果,又买来{n}个。他现在一共有多少个苹果?"
    return {"question": question, "reasoning": "\n\n".join(steps), "answer": f"{2 * n + 20}个"} | changes


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """A page with 12 right chains, one with a wrong equation, hostile ones, near copies and direct answers."""
    folder = tmp_path_factory.mktemp("report")
    wrong = trace(40, question="小红有7支铅笔,又买来8支。一共几支?", answer="十五支")
    wrong["reasoning"] = "原来7支。\n\n新买8支。\n\n合起来7+8=16支。"
    hostile = f"看 {HOSTILE}\n\n再看 {HOSTILE} 一遍\n\n算一算3+4=7。"
    rows = [
        *(trace(n) for n in range(1, 13)),
        *(dict(trace(n), reasoning=trace(n)["reasoning"] + "完毕") for n in (3, 4)),
        wrong,
        {"question": f"写 {HOSTILE} 的代码", "reasoning": hostile, "answer": f"不执行 {HOSTILE}"},
        {"question": f"再写 {HOSTILE} 的代码", "reasoning": f"一步 {HOSTILE}", "answer": HOSTILE},
        *({"question": f"第{n}号城市叫什么?", "reasoning": "", "answer": f"叫{n}城。"} for n in range(5)),
        {"question": "long " * 300, "reasoning": "w" * 900 + "\n\nSo 1+1=2.\n\nThen 2+2=4.", "answer": "x" * 700},
    ]
    source = folder / "traces.jsonl"
    source.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    prepare(source, folder / "out", filters=FilterConfig(keep_non_thinking=True), progress=False)
    return (folder / "out" / "report.html").as_uri()


@pytest.fixture
def open_page(browser, report):
    """Opens the page; at the end nothing may have been said on the console, and nothing asked of another place."""
    contexts, said, asked = [], [], []

    def open_it(place="", locale="en-US", width=1200, height=800, **options):
        context = browser.new_context(locale=locale, viewport={"width": width, "height": height}, **options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(20_000)
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(report + place)
        return page

    yield open_it
    for context in contexts:
        context.close()
    assert not said
    assert all(url.startswith(("file:", "data:")) for url in asked)


def shown(page):
    return page.locator("#records .card:visible").count()


def test_records_are_chosen_and_searched(open_page):
    page = open_page()
    everything = shown(page)
    assert everything == int(page.inner_text("#shown")) > 15
    page.select_option("select[name=verdict]", "wrong")
    assert shown(page) == 1 and page.inner_text("#records .card:visible mark.wrong") == "7+8=16"
    assert "16" in page.inner_text("#records .card:visible .step.wrong")
    page.select_option("select[name=verdict]", "")
    page.select_option("select[name=mode]", "direct")
    assert shown(page) == 5 and page.locator("#records .card:visible ol").count() == 0
    page.select_option("select[name=mode]", "")
    page.fill("#search", "铅笔")
    assert shown(page) == 1
    page.fill("#search", "nowhere")
    assert shown(page) == 0 and page.is_visible("#nothing")
    page.press("#search", "Escape")
    assert shown(page) == everything and not page.is_visible("#nothing")


def test_by_the_keyboard(open_page):
    page = open_page()
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.id") == "search"
    page.keyboard.type("jk")  # is text there
    assert page.input_value("#search") == "jk"
    page.keyboard.press("Escape")
    page.evaluate("document.activeElement.blur()")
    cards = "[...document.querySelectorAll('#records .card')].indexOf(document.activeElement)"
    for key, place in (("j", 0), ("j", 1), ("k", 0), ("k", 0)):
        page.keyboard.press(key)
        assert page.evaluate(cards) == place
    # every link, fold and choice is reached by Tab
    page.evaluate("document.activeElement.blur(); scrollTo(0, 0)")
    reached = set()
    for _ in range(60):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.tagName"))
    assert {"A", "BUTTON", "SUMMARY", "SELECT", "INPUT", "ARTICLE"} <= reached


def test_a_link_opens_the_examples_of_its_filter(open_page):
    page = open_page()
    assert not page.evaluate("document.querySelector('#removed-few_steps').open")
    page.click("a[href='#removed-few_steps']")
    page.wait_for_function("document.querySelector('#removed-few_steps').open")
    assert HOSTILE in page.inner_text("#removed-few_steps")
    assert page.locator("#duplicates ~ details .pair").count() == 2
    assert page.locator("#duplicates ~ details ins").first.inner_text() == "完毕"
    page = open_page("#removed-few_steps")
    page.wait_for_function("document.querySelector('#removed-few_steps').open")


def test_no_script_of_the_data_runs(open_page):
    page = open_page()
    page.wait_for_timeout(300)
    assert page.title().startswith("Data report") and page.locator("img").count() == 1
    assert HOSTILE in page.inner_text("#records")


@pytest.mark.parametrize("locale", ["en-US", "zh-CN"])
def test_on_a_phone_in_both_languages(open_page, locale):
    page = open_page(locale=locale, width=360, height=740, has_touch=True, is_mobile=True)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    chinese = locale == "zh-CN"
    assert page.inner_text("h1") == ("数据报告" if chinese else "Data report")
    assert page.locator("select[name=mode] option").first.inner_text() == ("两种模式" if chinese else "both modes")
    kept, dropped = (page.locator("#duplicates ~ details .pair > div").nth(n).bounding_box() for n in (0, 1))
    assert dropped["y"] > kept["y"] + kept["height"] - 1 and dropped["x"] == kept["x"]
    page.click("#language")
    assert page.inner_text("h1") == ("Data report" if chinese else "数据报告")
    assert page.locator("select[name=mode] option").first.inner_text() == ("both modes" if chinese else "两种模式")


def test_without_scripts_the_page_is_whole(open_page):
    page = open_page(java_script_enabled=False)
    assert shown(page) > 15 and page.inner_text("h1") == "Data report"
    assert not page.is_visible("#choose") and not page.is_visible("#language")
