"""A page in a real browser, without a window: what it measures, what it complains of, what it asks the network for."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from dataclasses import dataclass
from html import escape, unescape
from pathlib import Path
from typing import Any

from support import ROOT

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chromium-headless-shell")
SHOTS = ROOT / "build" / "screenshots"
# measured in the page when all of it is there, and left in an attribute that --dump-dom writes
PROBE = """<script>addEventListener('load', () => {
const boxes = [...document.querySelectorAll('svg')].map(e => e.getBoundingClientRect()).filter(b => b.width);
top.document.documentElement.setAttribute('data-probe', JSON.stringify({
  width: innerWidth, page: document.documentElement.scrollWidth, text: document.body.innerText,
  svgs: boxes.map(b => [b.width, b.height]), dark: matchMedia('(prefers-color-scheme: dark)').matches,
  asked: performance.getEntriesByType('resource').map(e => e.name),
  ground: getComputedStyle(document.body).backgroundColor,
})); });</script>"""
# a window cannot be as narrow as a telephone; a frame can
FRAME = (
    '<!DOCTYPE html><body style="margin: 0"><iframe style="border: 0; width: {}px; height: {}px" srcdoc="{}"></iframe>'
)


def browser() -> str | None:
    """The path of a browser, None if there is none."""
    return next((path for name in BROWSERS if (path := shutil.which(name))), None)


@dataclass(frozen=True)
class Seen:
    """A page as the browser had it."""

    probe: dict[str, Any]
    complaints: list[str]  # lines of its console
    requests: list[str]  # addresses that the page asked for
    shot: Path


def look(page: str, name: str, width: int, height: int, where: Path, dark: bool = False, script: str = "") -> Seen:
    """Open a page of this text at a width, in pixels, run a script in it, and keep a screenshot NAME.png."""
    SHOTS.mkdir(parents=True, exist_ok=True)
    file, shot = where / f"{name}.html", SHOTS / f"{name}.png"
    page = page.replace("</body>", f"<script>{script}</script>{PROBE}</body>")
    file.write_text(FRAME.format(width, height, escape(page)))
    command = [str(browser()), "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run"]
    command += ["--disable-background-networking", "--disable-component-update", "--enable-logging=stderr"]
    command += [
        f"--user-data-dir={where / name}",
        f"--window-size={max(width, 500)},{height}",
        "--host-resolver-rules=MAP * ~NOTFOUND",
    ]
    command += [f"--blink-settings=preferredColorScheme={0 if dark else 1}", f"--screenshot={shot}", "--dump-dom"]
    ran = subprocess.run([*command, file.as_uri()], capture_output=True, text=True, timeout=120, check=True)
    found = re.search(r'data-probe="([^"]*)"', ran.stdout)
    assert found, ran.stderr
    complaints = [line for line in ran.stderr.splitlines() if "CONSOLE" in line]
    probe = json.loads(unescape(found[1]))
    return Seen(probe, complaints, probe["asked"], shot)
