"""The report as people meet it: in a browser, on a phone, on paper, by keyboard and through a screen reader."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page

from chromium import launched, opened
from report_facts import write_classes, write_images, write_numbers

pytestmark = pytest.mark.browser

KINDS = {"classes": write_classes, "numbers": write_numbers, "images": write_images}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with launched() as browser:
        yield browser


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {kind: write(tmp_path_factory.mktemp(kind)) for kind, write in KINDS.items()}


@pytest.mark.parametrize("kind", KINDS)
def test_the_page_asks_for_nothing_and_complains_of_nothing(
    browser: Browser, reports: dict[str, Path], kind: str
) -> None:
    with opened(browser, reports[kind]) as found:
        assert found.asked == []
        assert found.said == []


def test_the_browser_itself_refuses_scripts_and_requests_that_are_not_the_reports(
    browser: Browser, reports: dict[str, Path]
) -> None:
    with opened(browser, reports["classes"]) as found:
        found.page.evaluate(
            """async () => {
                const script = document.createElement("script");
                script.textContent = "window.injected = true";
                document.body.append(script);
                await fetch("https://example.org/").catch(() => { window.refused = true; });
            }"""
        )
        assert found.page.evaluate("[window.injected ?? false, window.refused ?? false]") == [False, True]
        assert found.asked == []
        assert all("Content Security Policy" in line for line in found.said)


@pytest.mark.parametrize(
    ("kind", "scheme"), [("classes", "light"), ("classes", "dark"), ("numbers", "light"), ("images", "dark")]
)
def test_axe_finds_nothing_that_keeps_people_out(
    browser: Browser, reports: dict[str, Path], kind: str, scheme: Any
) -> None:
    with opened(browser, reports[kind], color_scheme=scheme) as found:
        found.page.evaluate("document.querySelectorAll('details').forEach((details) => { details.open = true; })")
        violations = Axe().run(found.page).response["violations"]
    told = [f"{one['id']}: {[node['html'][:160] for node in one['nodes'][:3]]}" for one in violations]
    assert told == []


def test_a_click_on_a_heading_sorts_and_a_second_one_turns_the_order(
    browser: Browser, reports: dict[str, Path]
) -> None:
    with opened(browser, reports["classes"]) as found:
        size = found.page.locator("#candidates thead th", has_text="size")
        size.get_by_role("button").click()
        assert _order(found.page) == ["distilled-50+int8", "pruned-30+int8", "int8", "fp32"]
        assert size.get_attribute("aria-sort") == "ascending"
        size.get_by_role("button").click()
        assert _order(found.page) == ["fp32", "int8", "pruned-30+int8", "distilled-50+int8"]
        assert size.get_attribute("aria-sort") == "descending"


def test_the_keyboard_sorts_too_and_the_new_order_is_spoken(browser: Browser, reports: dict[str, Path]) -> None:
    with opened(browser, reports["classes"]) as found:
        found.page.locator("#candidates thead th", has_text="drop").get_by_role("button").focus()
        found.page.keyboard.press("Enter")
        assert _order(found.page)[-1] == "distilled-50+int8"
        assert found.page.locator("#said").text_content() == "sorted by drop, ascending"


def _order(page: Page) -> list[str]:
    rows: list[str] = page.locator("#candidates [data-sortable] tbody tr").evaluate_all(
        "(rows) => rows.map((row) => row.dataset.candidate)"
    )
    return rows


def test_the_pointer_on_a_dot_says_the_candidates_name_and_marks_its_row(
    browser: Browser, reports: dict[str, Path]
) -> None:
    with opened(browser, reports["classes"]) as found:
        tip = found.page.locator("#tip")
        assert tip.is_hidden()
        found.page.locator("#frontier-size [aria-label^='2 int8']").hover()
        assert "2 int8" in tip.inner_text()
        assert "103.0 KB, outside" in tip.inner_text()
        assert found.page.locator("#candidates tr.active").get_attribute("data-candidate") == "int8"


def test_the_keyboard_reaches_each_dot_by_one_tab_and_arrows(browser: Browser, reports: dict[str, Path]) -> None:
    with opened(browser, reports["classes"]) as found:
        found.page.locator("#cost-axis").focus()
        found.page.keyboard.press("Tab")
        assert "1 fp32" in found.page.locator("#tip").inner_text()
        found.page.keyboard.press("ArrowRight")
        assert "2 int8" in found.page.locator("#tip").inner_text()
        found.page.keyboard.press("End")
        assert "4 distilled-50+int8" in found.page.locator("#tip").inner_text()
        found.page.keyboard.press("Escape")
        assert found.page.locator("#tip").is_hidden()


def test_another_cost_takes_the_place_of_latency(browser: Browser, reports: dict[str, Path]) -> None:
    with opened(browser, reports["classes"]) as found:
        found.page.locator("#cost-axis").select_option("frontier-memory")
        found.page.wait_for_function("document.querySelectorAll('#frontier [aria-label*=\"74.6 MB\"]').length === 1")
        assert found.page.get_by_role("heading", name="Accuracy over peak memory").is_visible()
        assert found.said == []


def test_dark_and_light_are_different_pages(browser: Browser, reports: dict[str, Path]) -> None:
    colors = {}
    for scheme in ("light", "dark"):
        with opened(browser, reports["classes"], color_scheme=scheme) as found:
            colors[scheme] = found.page.evaluate(
                """[getComputedStyle(document.body).backgroundColor,
                    getComputedStyle(document.querySelector("#loss .role-axis-label text")).fill]"""
            )
    assert colors["light"] == ["rgb(245, 244, 240)", "rgb(91, 90, 85)"]
    assert colors["dark"] == ["rgb(18, 18, 17)", "rgb(177, 176, 168)"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_phone_of_360_pixels_never_scrolls_sideways(browser: Browser, reports: dict[str, Path], kind: str) -> None:
    with opened(browser, reports[kind], width=360, height=740) as found:
        found.page.evaluate("document.querySelectorAll('details').forEach((details) => { details.open = true; })")
        assert found.page.evaluate("document.documentElement.scrollWidth") == 360
        wider = found.page.evaluate(
            """[...document.querySelectorAll("main *")].filter((part) => !part.closest(".scroll, pre, svg, .unseen")
                && part.getBoundingClientRect().right > 361).map((part) => part.outerHTML.slice(0, 120))"""
        )
        assert wider == []


@pytest.mark.parametrize("kind", KINDS)
def test_on_paper_it_is_light_whole_and_without_controls(
    browser: Browser, reports: dict[str, Path], kind: str, tmp_path: Path
) -> None:
    a4_without_margins = 703
    with opened(browser, reports[kind], width=a4_without_margins, color_scheme="dark") as found:
        found.page.emulate_media(media="print")
        assert found.page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
        for control in ("nav", "#cost-axis", ".code button"):
            assert not any(part.is_visible() for part in found.page.locator(control).all())
        found.page.evaluate("dispatchEvent(new Event('beforeprint'))")
        assert found.page.locator("details:not([open])").count() == 0
        cut = found.page.evaluate(
            f"""[...document.querySelectorAll("main *")].filter((part) =>
                part.getBoundingClientRect().right > {a4_without_margins + 1} && !part.closest("svg"))
                .map((part) => part.outerHTML.slice(0, 120))"""
        )
        assert cut == []
        scrolled = (
            "[...document.querySelectorAll('.scroll, pre')].filter((box) => box.scrollWidth > box.clientWidth + 1)"
        )
        assert found.page.evaluate(f"{scrolled}.map((box) => box.outerHTML.slice(0, 120))") == []
        found.page.pdf(path=tmp_path / "report.pdf", format="A4")
    assert (tmp_path / "report.pdf").read_bytes().startswith(b"%PDF")


def test_without_scripts_the_charts_are_drawn_and_every_figure_is_there(
    browser: Browser, reports: dict[str, Path]
) -> None:
    with opened(browser, reports["classes"], java_script_enabled=False) as found:
        plots = found.page.locator(".plot > svg")
        assert plots.count() == found.page.locator(".plot").count() == 6
        assert all(plot.is_visible() for plot in plots.all())
        assert found.page.locator("#candidates tbody tr[data-candidate]").count() == 4


def test_what_a_user_named_is_text_in_charts_too(browser: Browser, tmp_path: Path) -> None:
    with opened(browser, write_classes(tmp_path)) as found:
        assert found.page.locator("main b", has_text="virginica").count() == 0
        assert found.page.get_by_role("rowheader", name="virginica <b>").first.is_visible()
        specs = found.page.locator("script[data-spec]").evaluate_all("(all) => all.map((one) => one.textContent)")
        assert all("<" not in spec and json.loads(spec) for spec in specs)
