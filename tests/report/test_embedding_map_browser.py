"""The map as a browser shows it: its points, their colours, what is told of each, and nothing fetched."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medssl.report.embedding_map import make_column, make_thumbnail, write_map

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND", "--virtual-time-budget=2000",
)  # fmt: skip

pytestmark = pytest.mark.skipif(BROWSER is None, reason="no chromium or google-chrome on this machine")

VIEWS = ("first", "sex", "tsne")
SITES, SEXES = ["one", "two", "one"], ["f", "m", "m"]

LISTEN = """<script>
const told = [];
const tell = text => told.push(String(text));
addEventListener("error", event => tell(event.message || event.target.src), true);
addEventListener("securitypolicyviolation", event => tell(`blocked: ${event.blockedURI}`));
</script>"""

VISIT = """<pre id="seen"></pre><script>
// A script cannot move the pointer, so what holds under it holds for a class as well.
for (const sheet of document.styleSheets)
  for (const rule of [...sheet.cssRules])
    if (rule.selectorText?.includes(":hover"))
      sheet.insertRule(rule.cssText.replaceAll(":hover", ".under-pointer"), sheet.cssRules.length);
const isShown = node => node.getBoundingClientRect().width > 0 && node.getClientRects().length > 0;
const shown = selector => [...document.querySelectorAll(selector)].filter(isShown);
const look = () => ({
  points: shown("circle").map(circle => {
    const box = circle.getBoundingClientRect(), frame = circle.closest("svg").getBoundingClientRect();
    const x = box.x + box.width / 2 - frame.x, y = box.y + box.height / 2 - frame.y;
    return {x, y, fill: getComputedStyle(circle).fill};
  }),
  legend: shown(".legend li").map(entry => entry.textContent.trim()),
  swatches: shown(".legend .swatch").map(swatch => getComputedStyle(swatch).backgroundColor),
  cards: shown("text").map(text => text.textContent),
  thumbnails: shown("use").map(use => use.getBoundingClientRect().width),
});
const labels = [...document.querySelectorAll("label")];
const choose = name => labels.find(label => label.textContent === name).click();
addEventListener("load", () => {
  const seen = {first: look()};
  choose("sex");
  seen.sex = look();
  choose("t-SNE");
  seen.tsne = look();
  shown(".point")[0].classList.add("under-pointer");
  seen.pointed = look();
  seen.told = told;
  seen.loaded = performance.getEntriesByType("resource").map(entry => entry.name);
  document.getElementById("seen").textContent = JSON.stringify(seen);
});
</script>"""


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("map") / "map.html"
    rng = np.random.default_rng(0)
    columns = [make_column("site", SITES), make_column("sex", SEXES)]
    write_map(
        path,
        title="Map",
        scan_ids=["a", "b", "c"],
        projections={
            "PCA": np.array([[0, 0], [0.5, 1], [1, 0.5]]),
            "t-SNE": np.array([[1, 1], [0, 0.5], [0.5, 0]]),
        },
        columns=[column for column in columns if column],
        thumbnails=[make_thumbnail(rng.random((9, 9, 9)), (1, 1, 1)), None, None],
        duplicates=[],
        outliers=[],
        scores={},
        notes=[],
    )
    return path.read_text()


def visit(page: str, folder: Path) -> dict[str, Any]:
    """Return what a browser shows of a page, whose rules forbid scripts, so that these are let in."""
    allowed = page.replace("default-src 'none';", "default-src 'none'; script-src 'unsafe-inline';")
    assert allowed != page
    (folder / "map.html").write_text(allowed.replace("<title>", f"{LISTEN}<title>").replace("</body>", VISIT))
    command = [BROWSER, *FLAGS, f"--user-data-dir={folder / 'profile'}", "--dump-dom"]
    dom = subprocess.run(
        [*command, (folder / "map.html").as_uri()], capture_output=True, check=True, text=True, timeout=60
    ).stdout
    found = re.search(r'<pre id="seen">(.+?)</pre>', dom, re.DOTALL)
    assert found, f"the page was not visited to its end:\n{dom[-2000:]}"
    seen: dict[str, Any] = json.loads(found[1])
    return seen


def test_points_are_drawn_coloured_and_told_of(page: str, tmp_path: Path) -> None:
    seen = visit(page, tmp_path)
    places = {view: [(point["x"], point["y"]) for point in seen[view]["points"]] for view in VIEWS}
    assert [len(places[view]) for view in VIEWS] == [3, 3, 3]
    np.testing.assert_allclose(places["first"], [(13, 629), (321, 13), (629, 321)], atol=1.5)
    assert places["sex"] == places["first"]
    np.testing.assert_allclose(places["tsne"], [(629, 13), (13, 321), (321, 629)], atol=1.5)

    for name, values in (("first", SITES), ("sex", SEXES), ("tsne", SEXES)):
        colours = dict(zip(seen[name]["legend"], seen[name]["swatches"], strict=True))
        assert sorted(colours) == sorted(set(values))
        assert len(set(colours.values())) == 2
        assert [point["fill"] for point in seen[name]["points"]] == [colours[value] for value in values]
        assert seen[name]["cards"] == seen[name]["thumbnails"] == []
    assert seen["pointed"]["cards"] == ["a", "site: one", "sex: f"]
    assert seen["pointed"]["thumbnails"] == [160]

    assert seen["told"] == []
    assert [name for name in seen["loaded"] if not name.startswith("data:")] == []


def test_the_visit_tells_of_what_a_page_fetches(page: str, tmp_path: Path) -> None:
    seen = visit(page.replace("<h1>", '<img src="https://example.org/one.png"><h1>'), tmp_path)
    assert any("example.org" in each for each in seen["told"])
