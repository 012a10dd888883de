"""report.html in headless Chromium: at a phone's width and a desk's, in light and dark."""

import shutil

import pytest
import simulated

from fiat_jax.report import page

pytestmark = pytest.mark.slow

OVERFLOWING = """() => [...document.querySelectorAll('body *')]
  .filter((e) => !e.closest('.scroll, svg, .skip') && e.getBoundingClientRect().right > innerWidth + 0.5)
  .map((e) => e.outerHTML.slice(0, 80))"""
CONTRASTS = """() => {  // of every text with its background, WCAG 2.1
  const parse = (c) => c.match(/[\\d.]+/g).slice(0, 3).map(Number);
  const light = (c) => parse(c).map((v) => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, n) => sum + v * [0.2126, 0.7152, 0.0722][n], 0);
  const paper = light(getComputedStyle(document.body).backgroundColor);
  const contrast = (a, b) => (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
  const written = (e) => [...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim());
  const colour = (e) => e.closest('svg') ? getComputedStyle(e).fill : getComputedStyle(e).color;
  return [...document.querySelectorAll('main *, h1')].filter((e) => written(e) && !e.closest('title, desc'))
    .map((e) => [contrast(light(colour(e)), paper), e.textContent.slice(0, 40)])
    .filter(([ratio]) => !(ratio >= 4.5));
}"""


@pytest.fixture(scope="module")
def chromium():
  playwright = pytest.importorskip("playwright.sync_api", reason="playwright is missing: run launch/setup.sh")
  found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
  if not found:
    pytest.skip("no Chromium on this machine: apt-get install chromium")
  with playwright.sync_playwright() as running:
    browser = running.chromium.launch(executable_path=found, args=["--no-sandbox"])
    yield browser
    browser.close()


@pytest.fixture(scope="module")
def file(tmp_path_factory):
  folder = simulated.complete(
    simulated.write(tmp_path_factory.mktemp("compared"), tuple(simulated.EVERY), seeds=(1, 2))
  )
  page.write(folder)
  return (folder / "report.html").as_uri()


@pytest.fixture(params=[(360, "light"), (360, "dark"), (1280, "light"), (1280, "dark")], ids=lambda p: f"{p[0]}-{p[1]}")
def opened(chromium, file, request):
  width, scheme = request.param
  context = chromium.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme)
  tab, heard = context.new_page(), []
  tab.on("console", lambda message: heard.append(message.text))
  tab.on("pageerror", lambda error: heard.append(str(error)))
  tab.on("request", lambda asked: heard.append(asked.url) if not asked.url.startswith((file, "data:,")) else None)
  tab.goto(file)
  yield tab
  assert not heard, "no errors, and nothing is fetched"
  context.close()


def test_nothing_overflows_and_every_picture_is_drawn(opened):
  opened.evaluate("document.querySelectorAll('details').forEach((one) => one.open = true)")
  assert opened.evaluate("document.documentElement.scrollWidth <= innerWidth")
  assert opened.evaluate(OVERFLOWING) == []
  sizes = opened.evaluate(
    "[...document.querySelectorAll('svg')].map((e) => e.getBBox()).map((b) => [b.width, b.height])"
  )
  assert sizes and all(width > 100 and height > 40 for width, height in sizes)
  assert opened.title().startswith("Which way of learning")


def test_text_stands_out_from_its_background(opened):
  assert opened.evaluate(CONTRASTS) == []


def test_tables_sort_from_the_keyboard(opened):
  def column(number):
    return opened.evaluate(
      f"[...document.querySelectorAll('#table-recipes tbody tr')].map((r) => r.cells[{number}].innerText)"
    )

  head = opened.locator("#table-recipes thead th").nth(1)
  for key, direction in (("Enter", "ascending"), ("Space", "descending")):
    head.locator("button").press(key)
    scores = [float(text) for text in column(1)]
    assert head.get_attribute("aria-sort") == direction
    assert scores == sorted(scores, reverse=direction == "descending")
  opened.locator("#table-recipes thead th").nth(3).locator("button").click()
  assert column(3)[-1] == "–", "what has no number stays last"
  opened.locator("#table-recipes thead th").first.locator("button").click()
  assert [name.lower() for name in column(0)] == sorted(name.lower() for name in column(0))


def test_the_switch_overrules_the_systems_colours(opened):
  colour = lambda: opened.evaluate("getComputedStyle(document.body).backgroundColor")  # noqa: E731
  opened.get_by_role("button", name="dark", exact=True).click()
  dark = colour()
  opened.get_by_role("button", name="light", exact=True).click()
  assert (dark, colour()) == ("rgb(22, 24, 28)", "rgb(255, 255, 255)")
  assert opened.get_by_role("button", name="light", exact=True).get_attribute("aria-pressed") == "true"


def test_focus_is_seen(opened):
  for _ in range(5):
    opened.keyboard.press("Tab")
  style = opened.evaluate("getComputedStyle(document.activeElement).outlineStyle")
  assert style == "solid"
