#!/usr/bin/env python3
"""The page of salad-edge in a browser: first password, login, live view, threshold preview, events, what axe-core finds, light
and dark, on a phone and a desk; and an event that is called normal, and that undone. `make test-web` calls it; takes ffmpeg, Debian's chromium and scripts/setup-browser.sh.

    target/browser/bin/python tests/web/page.py [--bundle FILE]

Screenshots go to target/web.
"""

import argparse
import pathlib
import re
import shutil
import subprocess
import sys
import time

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import sync_playwright

ROOT = pathlib.Path(__file__).resolve().parents[2]
OUT = ROOT / "target/web"
sys.path.insert(0, str(ROOT / "tests/streams"))
from edge import EDGE, build  # noqa: E402

PATIENCE_SECS = 30
PASSWORD = "a good one"
CONFIG = """name = "bottling line 3"
bundle = "m.salad"
[source]
pipe = { command = ["ffmpeg", "-loglevel", "error", "-re", "-f", "lavfi", "-i", \
"smptebars=size=320x240:rate=10,noise=alls=6:allf=t", "-f", "mjpeg", "-"], fps = 10, frozen_after_secs = 0 }
[lens]
obstructed_after_secs = 0
[events]
store = "events.db"
[snapshots]
dir = "pictures"
[web]
listen = "127.0.0.1:0"
"""


def until(look, what):
    """Waits for `look` to give something true. From here, since the page's policy forbids to evaluate text in it."""
    end = time.monotonic() + PATIENCE_SECS
    while not (found := look()):
        assert time.monotonic() < end, f"waited for {what}"
        time.sleep(0.05)
    return found


def visit(page, url, scheme, width):
    """Logs in, uses the live view, and looks at every page."""
    assert page.request.get(f"{url}/api/v1/state").status == 401
    page.goto(url)
    page.fill("#password", PASSWORD)
    page.keyboard.press("Enter")
    page.wait_for_url(f"{url}/")
    until(lambda: page.inner_text("#score") != "–", "a score")
    first = page.get_attribute("#live", "src")
    until(lambda: page.get_attribute("#live", "src") != first, "another picture")
    page.fill("#number", "0.9")
    until(lambda: page.inner_text("#preview").startswith("With 0.9"), "the preview")
    until(lambda: page.locator("#chart > *").count() > 3, "the chart")
    events = f"{url}/api/v1/events?subject=anomaly"
    event = until(lambda: page.request.get(events).json(), "an event")[0]["id"]
    for name in ["/", "/events", f"/events/{event}", "/normal", "/health", "/settings", "/api"]:
        if name != "/":
            page.goto(url + name)
        wider = page.evaluate("document.documentElement.scrollWidth - innerWidth")
        assert wider <= 0, f"{name} is {wider} pixels wider than {width}"
        found = [v for v in Axe().run(page).response["violations"] if v["impact"] in ("serious", "critical")]
        assert not found, (scheme, width, name, [(v["id"], v["nodes"][0]["html"]) for v in found])
        title = "event" if event in name else name.strip("/") or "live"
        page.screenshot(path=OUT / f"{scheme}-{width}-{title}.png", full_page=True)


def call_normal(page, url):
    """An event is called normal, so that it ends and none begins; undone, the scene is told again."""
    def state():
        return page.request.get(f"{url}/api/v1/state").json()

    event = until(lambda: state()["event"], "an event that goes on")
    page.goto(f"{url}/events/{event}")
    if page.locator("[name=confirmed]").count() > 0:
        page.click("text=This is normal")
        assert page.url == f"{url}/events/{event}", "sent without the confirmation"
        page.check("[name=confirmed]")
    page.click("text=This is normal")
    page.wait_for_selector("text=It is, since")
    until(lambda: state()["event"] is None, "the event's end")
    told = state()["events"]
    for _ in range(20):
        now = state()
        assert now["score"] < now["threshold"] and now["events"] == told, now
        time.sleep(0.1)
    page.goto(f"{url}/normal")
    page.click("text=Undo")
    page.wait_for_selector("text=Nothing yet")
    until(lambda: state()["event"], "the scene to be told again")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bundle", type=pathlib.Path, help="by default one that is drawn, of no use but to have a score")
    options = parser.parse_args()
    bundle = options.bundle or build()
    shutil.rmtree(OUT, ignore_errors=True)
    OUT.mkdir(parents=True)
    shutil.copy(bundle, OUT / "m.salad")
    (OUT / "edge.toml").write_text(CONFIG)
    said = OUT / "said"
    with open(said, "w") as log:
        edge = subprocess.Popen([EDGE, "run", "--config", "edge.toml"], cwd=OUT, stderr=log)
    try:
        pattern = re.compile(r"http://127\.0\.0\.1:\d+(?=/)")
        url = until(lambda: pattern.search(said.read_text()), "the page")[0]
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox", "--disable-dev-shm-usage"])
            for scheme in ("light", "dark"):
                for width in (1280, 390):
                    context = browser.new_context(color_scheme=scheme, viewport={"width": width, "height": 844})
                    page, problems = context.new_page(), []
                    page.on("pageerror", lambda error: problems.append(str(error)))
                    visit(page, url, scheme, width)
                    if (scheme, width) == ("dark", 390):
                        call_normal(page, url)
                        print("an event called normal ends and does not come again, until that is undone")
                    assert not problems, problems
                    context.close()
                    print(f"{scheme}, {width} pixels: fine")
            browser.close()
    finally:
        edge.terminate()
        edge.wait(PATIENCE_SECS)


if __name__ == "__main__":
    main()
