"""The report in headless Chromium: what moves, what is refused, and what a screen reader gets."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ssimpert.report.html.page import write_report
from ssimpert.report.html.report_of_run import run_report
from tests.ssimpert.report.html import chromium
from tests.ssimpert.report.html.small_results import find_photo, perturbed_of, photo_of, write_run

pytestmark = chromium.needs_browser

AXE = Path(__file__).parent / "axe" / "axe.min.js"
HOSTILE = ["<img src=x onerror=window.ran=1>.png", "</script><script>window.ran=1</script>.png"]
NAMES = ["plain.png", *HOSTILE, "four.png", "five.png", "six.png"]
PHOTO, PERTURBED = (np.rint(of(1)[0, :, 0, 0].numpy() * 255) for of in (photo_of, perturbed_of))
TOLERANCE = 2.0  # grey levels
# Functions and not expressions, which the page's policy would not let the browser evaluate again and again.
ROWS_LEFT = "left => document.querySelectorAll('#table-photos .tabulator-row').length === left"
LAST_HAS_PICTURE = (
    "() => [...document.querySelectorAll('article.photo')].at(-1).querySelector('img').src.includes('webp')"
)

Open = Callable[..., Any]


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report of six photos, two of which have names that would run as HTML."""
    folder = tmp_path_factory.mktemp("results")
    path = folder / "report.html"
    write_report(run_report(write_run(folder, NAMES), find_photo), path)
    return path


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """One browser for all tests."""
    with chromium.running() as found:
        yield found


@pytest.fixture
def open_page(browser: Any, report: Path) -> Iterator[Open]:
    """Opens the report. At the end of a test nothing may have been said on the console or asked of the network."""
    heard: list[str] = []
    contexts = []

    def open_(path: Path = report, **options: Any) -> Any:
        context = browser.new_context(viewport={"width": 1200, "height": 700}, **options)
        context.set_default_timeout(20_000)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: heard.append(f"console: {message.text}"))
        page.on("pageerror", lambda error: heard.append(f"error: {error}"))
        page.on("dialog", lambda dialog: heard.append(f"dialog: {dialog.message}"))
        page.on("request", lambda request: heard.extend(_foreign(request, path)))
        page.goto(path.as_uri())
        return page

    yield open_
    for context in contexts:
        context.close()
    assert heard == []


def _foreign(request: Any, path: Path) -> list[str]:
    is_own = request.url.startswith("data:") or request.url.partition("#")[0] == path.as_uri()
    return [] if is_own else [f"request: {request.url[:200]}"]


def colour_at(element: Any, across: float, down: float = 0.25) -> np.ndarray[Any, Any]:
    """The colour of an element on the screen, at shares of its width and height."""
    picture = np.asarray(Image.open(BytesIO(element.screenshot())).convert("RGB"), dtype=float)
    height, width = picture.shape[:2]
    return picture[round(down * (height - 1)), round(across * (width - 1))]


def is_colour(found: np.ndarray[Any, Any], wanted: np.ndarray[Any, Any]) -> bool:
    return bool(np.abs(found - wanted).max() <= TOLERANCE)


def first_card(page: Any) -> Any:
    return page.locator("article.photo").first


def rows_of(page: Any, table: str) -> Any:
    return page.locator(f"#table-{table} .tabulator-row")


def test_the_slider_moves_pixels(open_page: Open) -> None:
    page = open_page()
    slider = first_card(page).locator("img-comparison-slider")
    slider.scroll_into_view_if_needed()
    page.wait_for_function("() => document.querySelector('img[slot=second]').naturalWidth > 1")
    assert is_colour(colour_at(slider, 0.3), PHOTO)
    assert is_colour(colour_at(slider, 0.7), PERTURBED)
    box = slider.bounding_box()
    page.mouse.move(box["x"] + box["width"] * 0.5, box["y"] + box["height"] * 0.5)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.1, box["y"] + box["height"] * 0.5, steps=4)
    page.mouse.up()
    page.wait_for_timeout(150)  # the slider glides for 100 ms
    assert is_colour(colour_at(slider, 0.3), PERTURBED)
    assert abs(int(slider.get_attribute("aria-valuenow")) - 10) <= 1


def test_the_slider_moves_by_keys(open_page: Open) -> None:
    page = open_page()
    slider = first_card(page).locator("img-comparison-slider")
    slider.focus()
    page.keyboard.down("ArrowRight")
    page.wait_for_function("() => Number(document.activeElement.getAttribute('aria-valuenow')) >= 60")
    page.keyboard.up("ArrowRight")
    page.keyboard.press("End")
    page.wait_for_timeout(150)
    assert slider.get_attribute("aria-valuenow") == "100"
    assert is_colour(colour_at(slider, 0.9), PHOTO)
    page.keyboard.press("Home")
    page.wait_for_timeout(150)
    assert slider.get_attribute("aria-valuetext") == "photo 0%, perturbed photo 100%"
    assert is_colour(colour_at(slider, 0.1), PERTURBED)


def test_amplification_adds_the_perturbation_several_times(open_page: Open) -> None:
    page = open_page()
    card = first_card(page)
    control, slider = card.locator("[data-amplification]"), card.locator("img-comparison-slider")
    control.focus()
    page.keyboard.press("ArrowRight")
    page.wait_for_function("() => document.querySelector('img[slot=second]').src.startsWith('data:image/png')")
    assert card.locator("[data-amplification-shown]").inner_text() == "\u00d72"
    assert np.abs(colour_at(slider, 0.7) - (PHOTO + 2 * (PERTURBED - PHOTO))).max() <= 4
    page.keyboard.press("Home")
    page.wait_for_function("() => document.querySelector('img[slot=second]').src.startsWith('data:image/webp')")
    assert is_colour(colour_at(slider, 0.7), PERTURBED)


def test_maps_lie_over_the_photo_as_opaque_as_wanted(open_page: Open) -> None:
    page = open_page()
    card = first_card(page)
    frame, opacity = card.locator(".maps .frame"), card.locator("[data-opacity]")
    opacity.focus()
    page.keyboard.press("End")
    # The class activation map rises from 0 at the top to 1 at the bottom: viridis from dark violet to yellow.
    assert np.abs(colour_at(frame, 0.5, 0.02) - [68, 1, 84]).max() < 25
    assert np.abs(colour_at(frame, 0.5, 0.98) - [253, 231, 37]).max() < 25
    card.locator("[data-layer-choice]").select_option(label="WindowSSIM, rms of d")
    page.wait_for_function("() => document.querySelector('[data-layer-image]').complete")
    assert np.abs(colour_at(frame, 0.5, 0.98) - [68, 1, 84]).max() < 25
    assert "root mean square" in card.locator("[data-layer-meaning]").inner_text()
    opacity.focus()
    page.keyboard.press("Home")
    assert card.locator("[data-opacity-shown]").inner_text() == "0%"
    grey = colour_at(frame, 0.5, 0.5)
    assert np.ptp(grey) <= TOLERANCE
    assert abs(grey[0] - PHOTO @ [0.2126, 0.7152, 0.0722]) <= 4


@pytest.mark.parametrize(
    ("column", "text", "left"), [("label after", "bee 4", 1), ("margin after", "> 1.4", 4), ("margin after", "1..2", 3)]
)
def test_a_filter_narrows_rows(open_page: Open, column: str, text: str, left: int) -> None:
    page = open_page()
    assert rows_of(page, "photos").count() == len(NAMES)
    page.get_by_label(f"{column} filter").first.press_sequentially(text)
    page.wait_for_function(ROWS_LEFT, arg=left)
    block = page.locator("section", has=page.locator("#table-photos"))
    assert block.locator("[data-rows-shown]").inner_text() == f"{left} of {len(NAMES)} rows."
    block.get_by_role("button", name="Clear").click()
    page.wait_for_function(ROWS_LEFT, arg=len(NAMES))


def test_a_heading_sorts_by_the_enter_key(open_page: Open) -> None:
    page = open_page()
    heading = page.locator("#table-photos").get_by_role("button", name="margin after")
    cells = (
        "[...document.querySelectorAll('#table-photos .tabulator-row')].map(row => row.innerText.match(/bee \\d/)[0])"
    )
    before = page.evaluate(cells)
    heading.focus()
    page.keyboard.press("Enter")
    page.keyboard.press("Enter")
    assert page.evaluate(cells) == before[::-1]


def test_a_row_leads_to_its_photo_and_only_near_photos_hold_pictures(open_page: Open) -> None:
    page = open_page()
    last = page.locator("article.photo").last.locator("img").first
    assert last.get_attribute("src").startswith("data:image/gif")
    page.locator("#table-photos").get_by_role("link", name="six.png").click()
    page.wait_for_function(LAST_HAS_PICTURE)
    assert page.evaluate("location.hash") == "#photo-6"
    assert page.locator("#photo-6 h3").is_visible()


def test_every_picture_has_its_size_once_its_photo_is_reached(open_page: Open) -> None:
    page = open_page()
    for card in page.locator("article.photo").all():
        # The next cards get their pictures before they are rendered.
        card.scroll_into_view_if_needed()
        page.wait_for_timeout(100)
        for image in card.locator(".frame img").all():
            box = image.bounding_box()
            assert box is not None
            assert min(box["width"], box["height"]) > 100


def test_names_of_files_are_shown_and_never_run(open_page: Open) -> None:
    page = open_page()
    assert page.locator("article.photo h3").all_text_contents() == NAMES
    links = page.locator("#table-photos .tabulator-row a").all_inner_texts()
    assert set(HOSTILE) <= set(links)
    assert page.evaluate("window.ran") is None
    assert page.locator("img[src=x]").count() == 0


def test_what_gets_into_the_page_all_the_same_is_refused(browser: Any, report: Path) -> None:
    page = browser.new_page()
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.goto(report.as_uri())
    page.evaluate(
        """() => {
            const image = document.createElement("img");
            image.src = "https://example.invalid/x.png";
            const script = document.createElement("script");
            script.textContent = "window.ran = 1";
            const style = document.createElement("style");
            style.textContent = "body { display: none }";
            document.body.append(image, script, style);
            return fetch("https://example.invalid/").catch(() => null);
        }"""
    )
    assert page.evaluate("window.ran") is None
    assert page.locator("h1").is_visible()
    refused = [text for text in said if "Content Security Policy" in text]
    for kind in ("inline script", "inline style", "the image", "Connecting"):
        assert any(kind.lower() in text.lower() for text in refused), (kind, refused)
    page.close()


@pytest.mark.parametrize("colours", ["light", "dark"])
def test_axe_finds_no_serious_fault(open_page: Open, colours: str) -> None:
    page = open_page(color_scheme=colours)
    # As an expression of the debugger, since the page's policy runs no script of ours.
    page.evaluate(AXE.read_text(encoding="utf-8"))
    found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    serious = [
        f"{fault['id']}: {fault['nodes'][0]['html'][:200]}"
        for fault in found["violations"]
        if fault["impact"] in ("serious", "critical")
    ]
    assert serious == []
    assert len(found["passes"]) > 20  # it did look


def test_the_button_overrides_the_colours_of_the_system(open_page: Open) -> None:
    page = open_page(color_scheme="light")
    background = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(background)
    button = page.locator("#colours")
    button.click()
    button.click()
    assert button.inner_text() == "Colours: dark"
    assert page.evaluate(background) != light


def test_a_print_has_every_picture_and_the_tables_with_their_headings(open_page: Open) -> None:
    page = open_page(color_scheme="dark")
    page.emulate_media(media="print")
    page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    missing = "[...document.querySelectorAll('img[data-picture]')].filter(image => !image.src.includes('webp')).length"
    assert page.evaluate(missing) == 0
    headings = page.locator(".tabulator-print-table th").all_inner_texts()
    assert "margin after (logits)" in headings
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    pair, figure = (page.locator(f"article.photo {name}").first.bounding_box() for name in (".print-pair", "figure"))
    assert pair["y"] == pytest.approx(figure["y"], abs=1)  # no gap where the slider was
    assert not page.locator("img-comparison-slider").first.is_visible()


def test_nothing_is_wider_than_a_phone(open_page: Open) -> None:
    page = open_page()
    page.set_viewport_size({"width": 390, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
