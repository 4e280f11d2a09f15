"""The page in headless Chromium: as people use it, and as they attack it."""

import re
from urllib.parse import urlsplit

import pytest
from scripted_engine import ScriptedEngine
from serving_server import serving

from hf_reason.serving.app import create_app
from hf_reason.serving.experiments import Experiments
from hf_reason.serving.feedback import FeedbackStore
from hf_reason.serving.keys import ApiKeys, hashed
from hf_reason.serving.metrics import Metrics
from hf_reason.serving.preferences import Preferences
from hf_reason.serving.settings import ServeSettings

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

QUESTION = "小明有12个苹果,又买来25个,卖出8个。现在有多少个?"
HOSTILE = '<img src=x onerror="document.title=1"><script>document.title=1</script>'
STEPS = ["又买来后有12+25=37个", "卖出后有37-8=30个", "检查一遍"]
SCRIPTS = {
    "one": (STEPS, "还剩30个"),
    "two": (["12+25=37", "37-8=29"], "还剩29个"),
    "endless": (["算一下"], "数下去" * 10_000),  # no press of a key comes after its end
    "hostile": ([f"看 {HOSTILE} 1+1=3", "<b>步</b>"], f"答 {HOSTILE}"),
}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    engine = ScriptedEngine(SCRIPTS, delay=0.02)
    app = create_app(
        engine,
        ServeSettings(max_thought_tokens=320, chunk_interval=0),
        metrics=Metrics(process=False),
        feedback=FeedbackStore(folder / "feedback.db"),
        experiments=Experiments(folder / "experiments.db"),
    )
    with serving(app) as url:
        yield url, engine, folder


@pytest.fixture
def open_page(browser):
    """Opens an address; at the end nothing may have been said on the console, nor asked of another host."""
    contexts, said, hosts = [], [], set()

    def open_it(url, locale="en-US", width=1280, height=800, **options):
        context = browser.new_context(locale=locale, viewport={"width": width, "height": height}, **options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(20_000)
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda request: hosts.add(urlsplit(request.url).netloc))
        page.goto(url)
        hosts.discard(urlsplit(url).netloc)
        page.wait_for_selector("#budget[max]", state="attached")
        return page

    open_it.said = said
    yield open_it
    for page in [page for context in contexts for page in context.pages]:
        hosts.discard(urlsplit(page.url).netloc)
    for context in contexts:
        context.close()
    assert not said and not hosts


def choose(page, name):
    page.wait_for_selector("#model option", state="attached")
    page.select_option("#model", name)


def ask(page, question=QUESTION):
    page.fill("#question", question)
    page.press("#question", "Enter")


def done(page):
    page.wait_for_selector(".feedback:not([hidden])")


def test_steps_unfold_in_order_before_the_answer_and_a_wrong_equation_is_marked(server, open_page):
    page = open_page(server[0])
    choose(page, "one")
    page.evaluate("""() => {
        window.seen = [];
        new MutationObserver(() => {
            const steps = document.querySelectorAll('.steps li').length;
            const draft = document.querySelector('.draft')?.textContent ?? '';
            const state = [steps, draft !== '', Boolean(document.querySelector('.content')?.textContent)].join();
            if (window.seen.at(-1) !== state) window.seen.push(state);
        }).observe(document.body, {subtree: true, childList: true, characterData: true});
    }""")
    ask(page)
    done(page)
    seen = [state.split(",") for state in page.evaluate("window.seen")]
    counts = [int(steps) for steps, _, _ in seen]
    assert counts == sorted(counts) and set(counts) == {0, 1, 2, 3}
    assert all(steps == "3" for steps, _, content in seen if content == "true"), "the answer comes last"
    assert any(steps == "1" and draft == "true" for steps, draft, _ in seen), "a step is seen while it is written"
    assert page.locator(".steps li").count() == 3
    right, wrong = page.locator(".equation.holds").all_inner_texts(), page.locator(".equation.fails").all_inner_texts()
    assert len(right) == len(wrong) == 1 and "12+25=37" in right[0] and "37-8=30" in wrong[0] and "29" in wrong[0]
    assert "does not hold" in page.locator(".equation.fails").text_content()
    assert "1 of 2 equations does not hold" in page.inner_text(".figures")
    assert page.inner_text(".content") == "还剩30个"


def test_the_budget_is_the_slider(server, open_page):
    page, engine = open_page(server[0]), server[1]
    choose(page, "one")
    for value, shown, budget in (("20", "20 tokens", 20), ("0", "off", 0)):
        page.locator("#budget").fill(value)
        assert page.inner_text("#budget_shown") == shown
        ask(page)
        done(page)
        assert engine.jobs[-1].budget.thought == budget
        first = page.locator(".exchange").first
        assert first.locator(".steps li").count() == (1 if budget else 0)
        assert ("closed by the budget" in first.inner_text()) == bool(budget)
    page.locator("#budget").focus()
    page.keyboard.press("ArrowRight")
    assert page.inner_text("#budget_shown") == "10 tokens"


def test_a_comparison_is_blind_and_its_vote_is_stored(server, open_page):
    url, _, folder = server
    experiments = Experiments(folder / "experiments.db")
    experiments.start("round2", model="one", version_a="one", version_b="two")
    page = open_page(url)
    choose(page, "one")
    page.check("#compare")
    page.select_option("#other", "two")
    ask(page)
    page.wait_for_selector(".vote:not([hidden])")
    assert not {"one", "two"} & set(page.locator(".who").all_inner_texts())
    contents = page.locator(".content").all_inner_texts()
    assert sorted(contents) == ["还剩29个", "还剩30个"]
    page.click(".vote .first" if contents[0] == "还剩29个" else ".vote .second")
    page.wait_for_selector(".who .model")
    assert sorted(page.locator(".who .model").all_inner_texts()) == ["one", "two"]
    (vote,) = Preferences(folder / "feedback.db")
    assert (vote.chosen.model, vote.rejected.model, vote.chosen.answer) == ("two", "one", "还剩29个")
    assert vote.user.startswith("page-")
    ((_, arm, outcome, source),) = experiments.outcomes("round2")
    assert (arm, outcome, source) == (experiments.get("round2").arm(vote.user), int(arm == "B"), "preference")
    assert page.is_disabled(".vote .first")
    experiments.roll_back("round2")


def test_thumbs_and_corrections_are_stored(server, open_page):
    page, store = open_page(server[0]), FeedbackStore(server[2] / "feedback.db")
    choose(page, "one")
    ask(page)
    done(page)
    page.click(".down")
    page.wait_for_selector(".down[aria-pressed=true]")
    page.click(".correct")
    assert page.input_value(".its_steps").split("\n") == STEPS
    page.click(".correction .main")
    page.locator(".said", has_text="Nothing").wait_for()
    page.fill(".its_steps", "12+25=37\n37-8=28")
    page.fill(".its_answer", "28个")
    page.click(".correction .main")
    page.locator(".said", has_text="37-8=28").wait_for()
    page.click(".correct")
    page.fill(".its_steps", "12+25=37\n37-8=29")
    page.fill(".its_answer", "29个")
    page.fill(".its_comment", "算错了")
    page.click(".correction .main")
    page.locator(".said", has_text=re.compile("^Stored[.]$")).wait_for()
    stored = list(store)[-3:]
    assert [one.thumbs for one in stored] == ["down", None, None]
    last = stored[-1]
    assert (last.corrected_steps, last.corrected_answer, last.comment) == (("12+25=37", "37-8=29"), "29个", "算错了")
    assert last.served.context == QUESTION


def test_what_users_and_models_write_is_text(server, open_page):
    page = open_page(server[0])
    choose(page, "hostile")
    ask(page, f"问 {HOSTILE}")
    done(page)
    page.click(".correct")
    page.wait_for_timeout(300)
    assert page.title() == "hf_reason" and page.locator("#answers :is(img, script, b)").count() == 0
    for place in (".asked", ".steps li >> nth=0", ".content"):
        assert HOSTILE in page.locator(place).inner_text()
    assert page.locator(".equation.fails").count() == 1
    # and if a script tried: the browser refuses
    refused = page.evaluate("() => { try { document.body.innerHTML = '<p>'; return false } catch { return true } }")
    assert refused and open_page.said
    open_page.said.clear()  # the browser tells of the refusal


def test_keyboard_alone(server, open_page):
    page = open_page(server[0])
    page.wait_for_selector("#model option", state="attached")
    assert page.evaluate("document.activeElement.id") == "question"
    page.keyboard.type("1+1")
    page.keyboard.press("Shift+Enter")
    page.keyboard.type("=?")
    page.keyboard.press("Enter")
    done(page)
    assert page.inner_text(".asked") == "1+1\n=?"
    names = []
    for _ in range(40):
        page.keyboard.press("Tab")
        names.append(page.evaluate("(e => e.id || e.className || e.tagName)(document.activeElement)"))
        if names[-1] == "correct":
            break
    assert names[-1] == "correct" and {"model", "budget", "compare", "send", "SUMMARY", "up", "down"} <= set(names)
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.className") == "its_steps"
    page.keyboard.press("Escape")
    assert page.evaluate("document.activeElement.className") == "correct" and page.is_hidden(".correction")


@pytest.mark.parametrize("locale", ["zh-CN", "en-GB", "fr-FR"])
@pytest.mark.parametrize("width", [320, 390, 1280])
def test_languages_and_widths(server, open_page, locale, width):
    page = open_page(server[0], locale, width, 844, color_scheme="dark" if width == 390 else "light")
    choose(page, "one")
    chinese = locale == "zh-CN"
    assert page.inner_text("#send") == ("提问" if chinese else "Ask")
    assert page.evaluate("document.documentElement.lang") == ("zh-CN" if chinese else "en")
    page.check("#compare")
    page.select_option("#other", "two")
    ask(page, QUESTION + "长" * 200 + "W" * 200)
    page.wait_for_selector(".vote:not([hidden])")
    page.locator(".correct").first.click()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.click("#language")
    assert page.inner_text("#send") == ("Ask" if chinese else "提问")
    assert page.locator(".who").first.inner_text() == ("Answer 1" if chinese else "回答一")
    page.reload()
    page.wait_for_selector("#model option", state="attached")
    assert page.inner_text("#send") == ("Ask" if chinese else "提问")


def test_stop_ends_an_answer(server, open_page):
    page = open_page(server[0])
    choose(page, "endless")
    ask(page)
    page.wait_for_selector(".content:not([hidden])")
    page.keyboard.press("Escape")
    page.wait_for_selector(".answer .trouble:not([hidden])")
    assert page.inner_text(".answer .trouble") == "Stopped." and page.is_visible("#send")


def test_a_key_is_asked_for_and_kept_for_the_tab(browser, open_page):
    app = create_app(
        ScriptedEngine(SCRIPTS), keys=ApiKeys({hashed("sk-right"): "alice"}), metrics=Metrics(process=False)
    )
    with serving(app) as url:
        page = open_page(url)
        assert page.evaluate("document.activeElement.id") == "key"
        page.fill("#key", "sk-wrong")
        page.keyboard.press("Tab")
        page.wait_for_selector("#trouble:not([hidden])")
        assert "not known" in page.inner_text("#trouble")
        page.fill("#key", "sk-right")
        page.keyboard.press("Tab")
        page.wait_for_selector("#model option", state="attached")
        assert page.is_hidden("#trouble") and "sk-right" not in page.evaluate("JSON.stringify(localStorage)")
        ask(page)
        page.wait_for_selector(".content:not([hidden])")
        page.reload()
        page.wait_for_selector("#model option", state="attached")
        assert page.input_value("#key") == "sk-right"
        other = open_page(url)
        assert other.input_value("#key") == ""
        assert all("401" in text for text in open_page.said) and len(open_page.said) == 1
        open_page.said.clear()  # the browser tells of the refusal
