#!/usr/bin/env python3
"""The page of salad-edge in a browser: first password, login, live view, threshold preview, events, and what axe-core finds,
light and dark, on a phone and a desk. Takes ffmpeg, Debian's chromium and scripts/setup-browser.sh.

    target/browser/bin/python tests/web/page.py --edge target/release/salad-edge --bundle FILE [--out target/web]
"""

import argparse
import pathlib
import re
import shutil
import subprocess
import time

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import sync_playwright

PATIENCE_SECS = 30
PASSWORD = "a good one"
CONFIG = """name = "bottling line 3"
bundle = "m.salad"
[source]
pipe = { command = ["ffmpeg", "-loglevel", "error", "-re", "-f", "lavfi", "-i", "testsrc=size=320x240:rate=10", "-f", \
"mjpeg", "-"], fps = 10, frozen_after_secs = 0 }
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


def visit(page, url, out, scheme, width):
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
        page.screenshot(path=out / f"{scheme}-{width}-{title}.png", full_page=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--edge", type=pathlib.Path, required=True)
    parser.add_argument("--bundle", type=pathlib.Path, required=True)
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("target/web"))
    options = parser.parse_args()
    shutil.rmtree(options.out, ignore_errors=True)
    options.out.mkdir(parents=True)
    shutil.copy(options.bundle, options.out / "m.salad")
    (options.out / "edge.toml").write_text(CONFIG)
    said = options.out / "said"
    with open(said, "w") as log:
        edge = subprocess.Popen([options.edge.resolve(), "run", "--config", "edge.toml"], cwd=options.out, stderr=log)
    try:
        pattern = re.compile(r"http://127\.0\.0\.1:\d+(?=/)")
        url = until(lambda: pattern.search(said.read_text()), "the page")[0]
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
            for scheme in ("light", "dark"):
                for width in (1280, 390):
                    context = browser.new_context(color_scheme=scheme, viewport={"width": width, "height": 844})
                    page, problems = context.new_page(), []
                    page.on("pageerror", lambda error: problems.append(str(error)))
                    visit(page, url, options.out, scheme, width)
                    assert not problems, problems
                    context.close()
                    print(f"{scheme}, {width} pixels: fine")
            browser.close()
    finally:
        edge.terminate()
        edge.wait(PATIENCE_SECS)


if __name__ == "__main__":
    main()
