"""What a reader does with the page, in headless Chromium."""

import re
import shutil

import pytest
from made_runs import write_run, write_whole_run

from experiments import report

playwright = pytest.importorskip("playwright.sync_api", reason='needs a driver: pip install -e ".[browser]"')
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt-get install chromium"),
]
EVIL = "</script><img src=x onerror=document.title='owned'>"
GIF = bytes.fromhex("47494638396101000100800000000000ffffff21f90401000000002c00000000010001000002024401003b")


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """A page of three methods on two domains, with a diverged replica, a video and hostile names."""
    root = tmp_path_factory.mktemp("runs")
    for env in ("cube-double", "scene"):
        for agent in ("trqam", "fql", "qam"):
            diverged = {(2, 3)} if (agent, env) == ("qam", "scene") else ()
            write_whole_run(root / env / f"{agent}-0", env=env, agent=agent, diverged=diverged, note=EVIL)
    films = root / "scene" / "trqam-0" / "videos"
    films.mkdir()
    (films / "offline-1000000-task1-seed7-0.gif").write_bytes(GIF)
    out = root / "report.html"
    report.main([str(root), f"--out={out}", "--published=trqam_paper"])
    return out


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture
def opened(browser, file):
    """Opens the page; what it said or asked for that it must not is an error in the end."""
    contexts, wrong = [], []

    def watch(page):
        page.on("console", lambda message: wrong.append(message.text))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("request", lambda one: None if one.url.startswith(("file:", "data:")) else wrong.append(one.url))

    def open_page(width=1280, path=file, **options):
        contexts.append(browser.new_context(viewport={"width": width, "height": 900}, **options))
        page = contexts[-1].new_page()
        watch(page)
        page.goto(path.as_uri())
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert not wrong


def column(page, place, i):
    return page.locator(f"{place} tbody tr").evaluate_all(f"rows => rows.map(row => row.children[{i}].textContent)")


def test_it_loads_and_shows_the_study(opened):
    page = opened()
    assert "6 runs, 3 methods, 2 domains, 36 replicas. 1 diverged." in page.locator("#summary").inner_text()
    assert column(page, "#results", 0)[:3] == ["FQL (ours)", "QAM (ours)", "TRQAM (ours)"]
    assert page.locator("#curve-charts canvas").count() == 2
    assert page.title() == "Results"
    assert page.locator("img").count() == 0


def test_hostile_names_are_text(opened):
    page = opened()
    page.locator("#settings summary").click()
    assert EVIL in page.locator("#shared-table").inner_text()
    assert page.locator("img").count() == 0
    assert page.title() == "Results"


def test_the_policy_stops_what_would_be_injected(browser, file):
    """If markup got in after all, it could neither run nor ask for anything."""
    page = browser.new_page()
    requests, refused = [], []
    page.on("requestfinished", lambda one: requests.append(one.url))
    page.on("console", lambda message: refused.append(message.text))
    page.goto(file.as_uri())
    markup = "<img src='https://example.org/x' onerror='window.ran = 1'><img src=x onerror='window.ran = 1'>"
    page.evaluate(f'document.body.insertAdjacentHTML("beforeend", `{markup}`)')
    page.evaluate("fetch('https://example.org/y').catch(() => (window.refused = 1))")
    page.wait_for_function("window.refused === 1")
    assert page.evaluate("window.ran") is None
    assert len([text for text in refused if "Content Security Policy" in text]) >= 3
    assert requests == [file.as_uri()]
    page.close()


def test_it_sorts_and_filters(opened):
    page = opened()
    page.get_by_role("button", name="scene", exact=True).click()
    heading = page.locator("#results th", has_text="scene")
    assert heading.get_attribute("aria-sort") == "descending"
    best = column(page, "#results", 0)
    page.get_by_role("button", name="scene", exact=True).click()
    assert heading.get_attribute("aria-sort") == "ascending"
    assert column(page, "#results", 0) != best
    page.fill("#row-filter", "qam (ours), fql (ours)")
    assert sorted(column(page, "#results", 0)) == ["FQL (ours)", "QAM (ours)", "TRQAM (ours)"]
    page.fill("#column-filter", "scene")
    assert page.locator("#results thead th").all_inner_texts() == ["method", "scene"]
    page.fill("#row-filter", "")
    page.fill("#column-filter", "")
    page.select_option("#view", "tasks")
    assert column(page, "#results", 0)[:2] == ["scene-task1", "scene-task2"]


def test_a_cell_opens_its_curves_and_hovering_names_a_seed(opened):
    page = opened()
    page.get_by_role("button", name="QAM (ours), scene:").first.click()
    assert page.locator("#curve-env").input_value() == "scene"
    checked = page.locator("#curve-methods label:has(input:checked)").all_inner_texts()
    assert [text.strip() for text in checked] == ["QAM"]
    assert page.evaluate("document.activeElement.id") == "curves-title"
    assert "Dashed with a cross" in page.locator("#curve-caption").inner_text()
    box = page.locator("#curve-charts .u-over").nth(1).bounding_box()
    page.mouse.move(box["x"] + box["width"] - 2, box["y"] + 5)
    readout = page.locator("#curve-charts .readout").nth(1).inner_text()
    assert readout.startswith("QAM, ")
    assert ", task 2" in readout
    assert re.search("step 1M: [0-9.]+\u00a0%$", readout)


def test_curves_of_training(opened):
    page = opened()
    page.get_by_role("button", name="TRQAM (ours), cube-double:").click()
    names = page.locator("#curve-metric option").all_inner_texts()
    assert names == ["success, %", "path KL, nats per action", "lambda", "critic loss", "grad norm"]
    page.select_option("#curve-metric", "path_kl")
    chart = page.locator("#curve-charts [role=group]").first
    assert "5 lines" in chart.get_attribute("aria-label")  # three seeds, their mean, the budget
    page.locator("#curve-log").check()
    page.select_option("#curve-task", "2")
    assert page.locator("#curve-charts canvas").count() == 1


def test_arrow_keys_read_a_chart(opened):
    page = opened()
    chart = page.locator("#curve-charts [role=group]").first
    chart.focus()
    page.keyboard.press("ArrowLeft")
    first = page.locator("#curve-charts .readout").first.inner_text()
    assert "task 1, step 950K: " in first
    page.keyboard.press("ArrowUp")
    second = page.locator("#curve-charts .readout").first.inner_text()
    assert "step 950K" in second
    assert second != first


def test_two_methods_are_compared(opened):
    page = opened()
    page.select_option("#first", label="TRQAM")
    page.select_option("#second", label="FQL")
    forth = column(page, "#compare-table", 3)
    assert len(forth) == 3
    assert (
        page.locator("#compare-summary").inner_text().startswith("TRQAM minus FQL over all tasks that both have: 9.8")
    )
    page.select_option("#first", label="FQL")
    page.select_option("#second", label="TRQAM")
    assert [float(x) for x in column(page, "#compare-table", 3)] == [-float(x) for x in forth]
    page.locator("#compare-tasks").check()
    assert len(column(page, "#compare-table", 0)) == 7
    page.get_by_role("button", name="Differences by seed on scene", exact=True).click()
    assert page.locator("#compare-domain").inner_text().startswith("scene: ")
    assert column(page, "#compare-seeds", 0) == ["1", "2", "3"]
    assert page.locator("#compare-chart canvas").count() == 1
    page.select_option("#first", label="TRQAM")
    assert page.locator("#compare-summary").inner_text() == "Choose two different methods."


def test_diverged_settings_cost_and_videos(opened):
    page = opened()
    assert column(page, "#diverged-table", 0) == ["QAM"]
    page.get_by_role("button", name="Curves of QAM, scene, task 2").click()
    assert page.locator("#curve-task").input_value() == "2"
    page.select_option("#run-b", "2")
    assert "agent_name" in column(page, "#settings-table", 0)
    assert column(page, "#cost-table", 5) == ["10,000"] * 6
    page.locator("#videos summary").click()
    image = page.locator("#videos img")
    image.wait_for()
    assert image.evaluate("image => image.decode().then(() => image.naturalWidth)") == 1


def test_the_keyboard_alone(opened):
    """Tab reaches headings and cells, with a visible outline; Enter sorts, Space opens."""
    page = opened()
    page.locator("#results").focus()
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    assert page.locator("#results th").first.get_attribute("aria-sort") == "ascending"
    assert page.evaluate("document.activeElement.textContent") == "method"  # the focus stays
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    for _ in range(50):
        page.keyboard.press("Tab")
        name = page.evaluate("document.activeElement.getAttribute('aria-label')") or ""
        if name.startswith("TRQAM (ours), scene"):
            break
    page.keyboard.press("Space")
    assert page.evaluate("document.activeElement.id") == "curves-title"
    assert page.locator("#curve-env").input_value() == "scene"


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_in_both_schemes(opened, width, scheme):
    page = opened(width, color_scheme=scheme)
    assert page.evaluate("document.documentElement.scrollWidth") == width
    paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert paper == ("rgb(255, 255, 255)" if scheme == "light" else "rgb(21, 23, 26)")
    canvas = page.locator("#curve-charts canvas").first.bounding_box()
    assert 0 < canvas["width"] <= width
    page.set_viewport_size({"width": 700, "height": 900})
    page.wait_for_function("document.querySelector('#curve-charts canvas').getBoundingClientRect().width > 300")
    assert page.evaluate("document.documentElement.scrollWidth") == 700


def test_it_follows_a_change_of_scheme_and_prints_in_light(opened):
    page = opened(color_scheme="dark")
    assert page.evaluate("methodColour(0)") == "#2f8fd6"
    page.emulate_media(color_scheme="light")
    assert page.evaluate("methodColour(0)") == "#0072B2"
    page.emulate_media(color_scheme="dark")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.evaluate("methodColour(0)") == "#0072B2"
    page.emulate_media(media="print", color_scheme="dark")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert not page.locator("#phase").is_visible()


def test_one_run_of_one_method(opened, tmp_path):
    folder = write_run(tmp_path / "bc-0", [{"phase": "bc", "step": 300_000}], agent="bc")
    report.main([str(folder), f"--out={tmp_path / 'one.html'}"])
    page = opened(path=tmp_path / "one.html")
    assert not page.locator("#compare").is_visible()
    assert not page.locator("#videos").is_visible()
    assert page.locator("#diverged").inner_text().endswith("None: every replica's losses stayed finite.")
    assert page.locator("#settings-table").inner_text() == "No setting differs."
