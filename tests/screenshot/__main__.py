"""`python -m tests.screenshot`: look at the page in chromium, in light and dark, and keep the pictures of the README.

The page is served as the provider serves it. It fails when the browser refuses a part of it, asks for anything else, or
does not show the style sheet's ground.
"""

from __future__ import annotations

import asyncio
import shutil
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from tests.screenshot.png import Pixel, read_rows
from tests.unit.page.facts import make
from vk_provider.kubelet.server import HealthServer
from vk_provider.page.document import render_page
from vk_provider.page.style import HEADERS

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
PICTURES = Path(__file__).parents[2] / "manifests" / "dashboards"
LIMIT_S = 120.0
SIZE = "1160,1330"
GROUNDS: dict[str, tuple[str, Pixel]] = {"page": ("1", (0xF6, 0xF7, 0xF9)), "page-dark": ("0", (0x10, 0x14, 0x1B))}
"""Name of the picture -> chromium's preferredColorScheme, colour of the ground."""
SHOWN = ("nodeless-a", "m7i.large", "USD an hour by namespace", "<polygon", "search")
REFUSALS = ("Refused to", "Content Security Policy", "ERR_")


class Page:
    """kubelet.provider.StatusPage of a provider with pods. asked: how often."""

    headers: Mapping[str, str] = HEADERS

    def __init__(self) -> None:
        self.asked = 0

    async def render(self) -> bytes:
        self.asked += 1
        return render_page(make()).encode()


async def look(browser: str, url: str, directory: str, *options: str) -> tuple[str, str]:
    """(what it prints, what it says)."""
    process = await asyncio.create_subprocess_exec(
        browser,
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--hide-scrollbars",
        "--no-first-run",
        "--disable-background-networking",
        "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
        f"--user-data-dir={directory}",
        "--enable-logging=stderr",
        *options,
        url,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(LIMIT_S):
            out, said = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return out.decode(), said.decode(errors="replace")


def find_problems(name: str, picture: Path, ground: Pixel, document: str, said: str) -> list[str]:
    found = [f"{name}: {text!r} is not shown" for text in SHOWN if text not in document]
    consoles = [line for line in said.splitlines() if "CONSOLE" in line]
    found += [f"{name}: {line}" for line in consoles if any(word in line for word in REFUSALS)]
    pixel = read_rows(picture, 1)[0][0]
    if pixel != ground:
        found.append(f"{name}: the ground is {pixel}, not {ground}: the style sheet is not in force")
    return found


async def run(browser: str) -> list[str]:
    page, problems = Page(), list[str]()
    server = HealthServer("127.0.0.1", 0, lambda: True, page)
    await server.start()
    url = f"http://127.0.0.1:{server.port}/"
    try:
        for name, (scheme, ground) in GROUNDS.items():
            picture = PICTURES / f"{name}.png"
            with tempfile.TemporaryDirectory() as directory:
                look_of = f"--blink-settings=preferredColorScheme={scheme}"
                drawn = (f"--screenshot={picture}", f"--window-size={SIZE}", look_of)
                _, said = await look(browser, url, directory, *drawn)
                document, more = await look(browser, url, directory, "--dump-dom", look_of)
            problems += find_problems(name, picture, ground, document, said + more)
    finally:
        await server.stop()
    if page.asked != 2 * len(GROUNDS):
        problems.append(f"the page was asked for {page.asked} times, not {2 * len(GROUNDS)}")
    return problems


def main() -> int:
    browser = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    if browser is None:
        print("error: there is no chromium; next: apt-get install chromium (400 MB)", file=sys.stderr)
        return 3
    problems = asyncio.run(run(browser))
    print("\n".join(problems) or f"the page is shown as it should be; pictures are in {PICTURES}")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
