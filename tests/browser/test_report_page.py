"""The report's page in a real browser: it renders, sorts, filters, copies, asks for nothing, and fits a phone."""

import json

import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

from mixmae.experiment.jobs import stage_jobs
from mixmae.presentation.declaration import TableSpec
from mixmae.runs.folder import RunFolder
from results.plots.curve.spec import CurvePlot
from results.plots.loss.spec import LossPlot
from results.report.writing import write_report
from results.rows.collect import collect
from results.tables import build_table, latex, markdown
from support.made_runs import FINGERPRINT, declared, experiment, two_methods_and_references, write_state, write_weights

PHONE = 360
MISSING = "–"
HOSTILE = "</script><script>owned = 1</script><img src=x onerror='owned = 1'>\u202e\U0001f40d" + "long" * 100
TABLE = TableSpec(name="main", title="Methods")
PLOTS = (LossPlot(name="loss", title="Losses"), CurvePlot(name="top1", title=f"Top-1 {HOSTILE}"))


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    """What the page shows: the collected runs, the grid, and the page's path."""
    folder = tmp_path_factory.mktemp("report <&> of a grid")
    made = two_methods_and_references(folder / "runs")
    failed = stage_jobs(experiment("mae"), lambda data: FINGERPRINT)[0]
    made.add(experiment("mae"), linear=70.0)
    run = RunFolder(made.root, "pretrain", failed.id)
    write_state(run, "failed", HOSTILE)
    run.write("environment", {"commit": HOSTILE, "cpu": HOSTILE})
    (made.root / "pretrain" / "<img src=x onerror='owned = 1'>\udcff").mkdir()
    planned = stage_jobs(experiment("simmim"), lambda data: FINGERPRINT)[0]
    write_weights(RunFolder(made.root, planned.stage, planned.id), planned)
    names = {"title": HOSTILE, "scale": HOSTILE, "commands": (HOSTILE, "mixmae results report made.yaml")}
    grid, frame = declared(made, tables=(TABLE,), plots=PLOTS, **names), collect(made.root)
    write_report(frame, [grid], folder)
    return frame, grid, folder / "index.html"


@pytest.fixture
def page(browser, shown):
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    browser.get(shown[-1].as_uri())
    for kind in ("browser", "performance"):
        browser.get_log(kind)
    return browser


def heading(page, table: str, label: str):
    """The button that sorts by the column."""
    labels = page.find_elements(By.CSS_SELECTOR, f"{table} thead th button")
    return next(button for button in labels if button.text.strip() == label)


def column(page, table: str, label: str) -> list[str]:
    """The texts of a column from top to bottom."""
    names = [cell.text.strip() for cell in page.find_elements(By.CSS_SELECTOR, f"{table} thead th")]
    cells = f"{table} tbody tr > :nth-child({names.index(label) + 1})"
    return [cell.text for cell in page.find_elements(By.CSS_SELECTOR, cells)]


DECLARED = "section[id^=grid] table"
RUNS = "table[aria-labelledby=every-run]"


def test_the_page_renders_without_complaint_and_asks_for_nothing(page, shown):
    page.get(shown[-1].as_uri())
    assert page.get_log("browser") == []
    sent = [json.loads(line["message"])["message"] for line in page.get_log("performance")]
    asked = [event["params"]["request"]["url"] for event in sent if event["method"] == "Network.requestWillBeSent"]
    assert [url for url in asked if not url.startswith("data:")] == [shown[-1].as_uri()]
    assert len(page.find_elements(By.CSS_SELECTOR, "section svg[role=img]")) == 3
    assert len(page.find_elements(By.CSS_SELECTOR, "#reconstructions svg image")) == 4 * 3
    box = page.find_element(By.CSS_SELECTOR, "svg[role=img]").rect
    assert box["width"] > 300 and box["height"] > 150


def test_what_would_ask_for_something_is_forbidden(page):
    violated = page.execute_async_script(
        "const done = arguments[0], found = [];"
        "document.addEventListener('securitypolicyviolation', (event) => {"
        "  found.push(event.effectiveDirective); if (found.length === 3) done(found.sort()); });"
        "new Image().src = 'http://127.0.0.1:9/picture.png';"
        "fetch('http://127.0.0.1:9/').catch(() => {});"
        "const script = document.createElement('script'); script.text = 'owned = 1'; document.body.append(script);"
    )
    assert violated == ["connect-src", "img-src", "script-src-elem"]
    assert page.execute_script("return window.owned") is None


def test_hostile_names_are_text(page):
    assert page.execute_script("return window.owned") is None
    assert page.execute_script("return document.scripts.length") == 1
    for where in ("h1", "dd", "code", ".words", "pre", "[role=note]"):
        assert any(HOSTILE in part.get_property("textContent") for part in page.find_elements(By.CSS_SELECTOR, where))
    assert any("<img src=x" in part.text for part in page.find_elements(By.CSS_SELECTOR, "#left-out li"))


def test_sorting_by_click(page):
    """Methods are sorted among themselves; what stands below their rule stays there."""
    heading(page, DECLARED, "fine-tuning").click()
    found = [text.split()[0] for text in column(page, DECLARED, "fine-tuning")]
    assert found == ["90.50", "91.50", "90.25", MISSING, MISSING]
    (sorted_by,) = page.find_elements(By.CSS_SELECTOR, f"{DECLARED} [aria-sort]")
    assert (sorted_by.text.strip(), sorted_by.get_attribute("aria-sort")) == ("fine-tuning", "ascending")
    heading(page, DECLARED, "fine-tuning").click()
    found = [text.split()[0] for text in column(page, DECLARED, "fine-tuning")]
    assert found == ["91.50", "90.50", "90.25", MISSING, MISSING]


def test_sorting_by_keyboard(page):
    button = heading(page, RUNS, "top-1 (%)")
    page.execute_script("arguments[0].focus()", button)
    page.switch_to.active_element.send_keys(Keys.ENTER)
    found = [text for text in column(page, RUNS, "top-1 (%)") if text != MISSING]
    assert found == sorted(found, key=float) and found[0] == "60.00"
    page.switch_to.active_element.send_keys(Keys.SPACE)
    whole = column(page, RUNS, "top-1 (%)")
    assert whole == [*found[::-1], *[MISSING] * (len(whole) - len(found))]
    page.switch_to.active_element.send_keys(Keys.TAB, Keys.ENTER)
    losses = column(page, RUNS, "loss")
    done = [text for text in losses if text != MISSING]
    assert done == sorted(done, key=float) and losses == [*done, *[MISSING] * (len(losses) - len(done))]


def test_sorting_by_text(page):
    heading(page, RUNS, "method").click()
    found = column(page, RUNS, "method")
    assert found == sorted(found, key=str.lower) and len(set(found)) == 6


def test_filtering(page):
    field = page.find_element(By.CSS_SELECTOR, "[data-filters=every-run]")
    field.send_keys("MIXMAE linear")
    rows = [row for row in page.find_elements(By.CSS_SELECTOR, f"{RUNS} tbody tr") if row.is_displayed()]
    assert len(rows) == 2 and all("MixMAE" in row.text for row in rows)
    assert page.find_element(By.CSS_SELECTOR, ".filter output").text == "2 of 17"
    field.send_keys(Keys.BACKSPACE * 13)
    assert len([row for row in page.find_elements(By.CSS_SELECTOR, f"{RUNS} tbody tr") if row.is_displayed()]) == 17


@pytest.fixture(params=["clipboard", "without the clipboard's interface"])
def page_that_copies(request, page, shown):
    if request.param == "clipboard":
        yield page
        return
    source = {"source": "Object.defineProperty(navigator, 'clipboard', {value: undefined})"}
    script = page.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", source)
    page.get(shown[-1].as_uri())
    assert page.execute_script("return navigator.clipboard") is None
    yield page
    page.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", script)


@pytest.mark.parametrize(("label", "text_of"), [("Copy as Markdown", markdown), ("Copy as LaTeX", latex)])
def test_copying(page_that_copies, shown, label, text_of):
    page, (frame, grid, _) = page_that_copies, shown
    (button,) = [one for one in page.find_elements(By.CSS_SELECTOR, "[data-copy]") if one.text == label]
    button.click()
    WebDriverWait(page, 5).until(lambda _: button.text == "Copied")
    assert page.find_element(By.ID, "said").get_property("textContent") == "Copied"
    page.execute_script(
        "document.body.append(Object.assign(document.createElement('textarea'), {id: 'pasted'}));"
        "document.getElementById('pasted').focus()"
    )
    area = page.find_element(By.ID, "pasted")
    area.send_keys(Keys.CONTROL, "v")
    assert area.get_property("value") == text_of(build_table(frame, TABLE, grid))
    WebDriverWait(page, 5).until(lambda _: button.text == label)
    assert page.get_log("browser") == []


def test_the_page_fits_a_phone(page):
    size = {"width": PHONE, "height": 740, "deviceScaleFactor": 2, "mobile": True}
    page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    assert page.execute_script("return innerWidth") == PHONE
    assert page.execute_script("return document.documentElement.scrollWidth") <= PHONE
    wide = page.execute_script(
        "return Array.from(document.querySelectorAll('.scroll'), (box) => [box.scrollWidth > box.clientWidth,"
        " getComputedStyle(box).overflowX, box.getBoundingClientRect().right])"
    )
    assert sum(scrolls for scrolls, *_ in wide) >= 4
    assert all(overflow == "auto" and right <= PHONE for _, overflow, right in wide)


def test_text_is_legible_on_a_phone(page):
    """As large as it is drawn, the figures' too."""
    size = {"width": PHONE, "height": 740, "deviceScaleFactor": 2, "mobile": True}
    page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    sizes = page.execute_script(
        "const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT), found = {};"
        "while (walker.nextNode()) {"
        "  const parent = walker.currentNode.parentElement;"
        "  if (!walker.currentNode.data.trim() || !parent.getClientRects().length || parent.closest('script, style'))"
        "    continue;"
        "  const scale = parent.getScreenCTM ? Math.hypot(parent.getScreenCTM().a, parent.getScreenCTM().b) : 1;"
        "  found[parseFloat(getComputedStyle(parent).fontSize) * scale] = walker.currentNode.data.trim().slice(0, 40);"
        "} return found"
    )
    assert len(sizes) > 3
    assert {text for size, text in sizes.items() if round(float(size), 2) < 12} == set()


def test_the_page_prints_on_its_own_width(page):
    """What the screen scrolls to is not cut off in print: figures shrink to the paper, and words in tables break."""
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    try:
        size = {"width": 700, "height": 990, "deviceScaleFactor": 1, "mobile": False}
        page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        rights = page.execute_script(
            "return Array.from(document.querySelectorAll('.picture svg, table'),"
            " (one) => one.getBoundingClientRect().right)"
        )
        assert rights and max(rights) <= 700
        assert not page.find_element(By.CSS_SELECTOR, ".buttons").is_displayed()
    finally:
        page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
