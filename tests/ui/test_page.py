"""The page in a real browser: it loads, examples and files are tried, and it says what the run says."""

from __future__ import annotations

import json
import re

import pytest

import vitask
from vitask.config.compose import compose_config

from ..reporting.browser import find_browser
from .tab import Tab

pytest.importorskip("gradio", reason="gradio is not installed (vitask[ui])")
BROWSER = find_browser()
pytestmark = [pytest.mark.slow, pytest.mark.skipif(BROWSER is None, reason="no Chromium is installed")]
COLUMN = """(() => {
  const column = document.querySelector('#column-%d');
  return [...column.querySelectorAll('.confidence-set')].map(row => row.innerText.replace(/\\s+/g, ' ').trim());
})()"""

WHOLE = """(bottom => [...document.querySelectorAll('#examples .thumbnail-item, #examples .caption-label')].every(
  part => part.getBoundingClientRect().bottom <= bottom))
(document.querySelector('#examples').getBoundingClientRect().bottom)"""


@pytest.fixture(scope="module")
def page(pipeline):
    from vitask.ui.serve import start

    request = compose_config("demo_ui", [f"run={pipeline.run('crt')}", "examples=6", "device=cpu"])
    served, address = start(request)
    yield address
    served.close()


@pytest.fixture
def tab(page):
    with Tab(BROWSER) as opened:
        opened.open(page)
        opened.until("document.querySelectorAll('#examples .thumbnail-item').length == 6")
        yield opened


def complaints(tab: Tab) -> list[str]:
    """All but one that Gradio's own upload makes of every page that it serves."""
    return [text for text in tab.complaints if "Method not implemented." not in text]


def shown(tab: Tab, column: int) -> dict[str, int]:
    """Percentages by label."""
    rows = tab.until(f"(found => found.length == 3 && found)({COLUMN % column})")
    return {label: int(percent) for label, percent in (re.fullmatch(r"(.+) (\d+)%", row).groups() for row in rows)}


def expected(classifier: vitask.Classifier, image, **options) -> dict[str, int]:
    (said,) = classifier.predict(image, **options)
    return said.probabilities


def agree(found: dict[str, int], wanted: dict[str, float]) -> bool:
    return found.keys() == wanted.keys() and all(abs(found[label] - 100 * wanted[label]) <= 1 for label in wanted)


def test_examples_and_files_get_the_probabilities_of_every_model(tab, pipeline, shapes):
    tsm, vlm = (vitask.Classifier.from_pretrained(pipeline.run(stage), "cpu") for stage in ("tsm", "crt"))
    titles = tab.value("[0, 1, 2].map(n => document.querySelector(`#column-${n}`).innerText.split('\\n')[0])")
    assert titles == ["TSM", "VLM without exemplar", "VLM with exemplar"]
    assert tab.value(WHOLE), "no example is cropped, and its answer is seen"
    rows = sorted((shapes / "test").glob("*/*.png"))
    tried = [rows[0], rows[-1], shapes / "train/dot/1.png"]
    asked = (expected(tsm, image) for image in tried)
    said = []
    for image, of_tsm in zip(tried, asked, strict=True):
        if image.parts[-3] == "test":
            number = 0 if image == rows[0] else 5
            tab.value(f"document.querySelectorAll('#examples .thumbnail-item')[{number}].click()")
        else:
            tab.value('document.querySelector(\'button[aria-label="Clear"], button[title="Clear"]\')?.click()')
            tab.until("document.querySelector('input[type=file]') !== null")
            tab.give_file("input[type=file]", image)
        wanted = [of_tsm, expected(vlm, image, exemplar=False), expected(vlm, image, exemplar=True)]
        for column, each in enumerate(wanted):
            best = max(each, key=each.get)
            tab.until(f"document.querySelector('#column-{column}').innerText.includes({json.dumps(best)})")
        for _ in range(50):
            found = [shown(tab, column) for column in range(3)]
            if all(map(agree, found, wanted)):
                break
            tab.value("new Promise(done => setTimeout(done, 100))")
        assert all(map(agree, found, wanted)), (image, found, wanted)
        said.append(found)
    assert said[0] != said[1] != said[2]
    assert complaints(tab) == []


def test_the_tuned_model_talks_about_the_image(tab, pipeline, tmp_path):
    tab.write("#asked textarea", "What is <b>this</b>?")
    tab.until("document.body.innerText.includes('Choose an image first.')")
    tab.value("document.querySelectorAll('#examples .thumbnail-item')[0].click()")
    shown(tab, 1)
    tab.value("document.querySelector('#asked textarea').select()")
    tab.write("#asked textarea", "What is <b>this</b>?")
    tab.until("document.querySelectorAll('#talk .bot.message, #talk .message.bot').length == 1")
    text = tab.value("document.querySelector('#talk').innerText")
    assert "What is <b>this</b>?" in text
    assert tab.value("document.querySelectorAll('#talk b').length") == 0
    tab.write("#asked textarea", "And <IMG_CONTEXT>?")
    tab.until("document.body.innerText.includes('holds <IMG_CONTEXT>, which stands for the image')")
    assert complaints(tab) == []
