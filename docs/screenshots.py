"""Make the pictures of the pages from a finished run, with a Chromium that is installed: `python docs/screenshots.py runs/first`.

The run is that of the tutorial. What comes out, docs/images/report.png, is committed, since not everybody has a browser at hand.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

IMAGES = Path(__file__).parent / "images"
QUIET = ("--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-first-run")


def shoot(page: Path, picture: Path, width: int, height: int, colours: int = 128) -> None:
    """Write the top of a page as a PNG with a palette.

    Args:
        page: an HTML file.
        picture: where the PNG goes.
        width: of the window, in pixels.
        height: of the window, in pixels.
        colours: of the palette; fewer make a smaller file.
    """
    from PIL import Image

    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if browser is None:
        raise SystemExit("no Chromium is installed")
    with tempfile.TemporaryDirectory() as folder:
        raw = Path(folder) / "raw.png"
        own = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", f"--user-data-dir={folder}/profile", *QUIET]
        shot = [f"--screenshot={raw}", f"--window-size={width},{height}", page.resolve().as_uri()]
        subprocess.run([browser, *own, *shot], check=True, capture_output=True, timeout=120)
        picture.parent.mkdir(exist_ok=True)
        Image.open(raw).convert("RGB").quantize(colours).save(picture, optimize=True)
    print(f"{picture}: {picture.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    run = Path(sys.argv[1] if len(sys.argv) > 1 else "runs/first")
    shoot(run / "report.html", IMAGES / "report.png", width=1100, height=1150)
