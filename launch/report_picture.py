"""The first picture of a run's report as a PNG, for where a page cannot be shown. Opened in the machine's Chromium.

.venv/bin/python launch/report_picture.py runs/demo/report.html demo.png
"""

from __future__ import annotations

import argparse
import pathlib
import shutil
import sys

from playwright import sync_api

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
WIDTH, SHARPNESS = 900, 2  # CSS pixels, and the PNG's for one of them


def main() -> int:
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument("report", type=pathlib.Path, help="a report.html")
  parser.add_argument("picture", type=pathlib.Path, help="the PNG to write")
  args = parser.parse_args()
  browser = next(filter(None, map(shutil.which, BROWSERS)), None)
  if browser is None or not args.report.is_file():
    missing = f"no file {args.report}: give a report.html" if browser else "no Chromium: apt-get install chromium"
    print(f"report_picture: {missing}", file=sys.stderr)
    return 2
  with sync_api.sync_playwright() as running:
    opened = running.chromium.launch(executable_path=browser, args=["--no-sandbox"])
    view = {"width": WIDTH, "height": 800}
    page = opened.new_page(viewport=view, device_scale_factor=SHARPNESS, color_scheme="light")  # pyright: ignore[reportArgumentType]
    page.goto(args.report.absolute().as_uri())
    page.locator("svg").first.screenshot(path=args.picture)
    opened.close()
  return 0


if __name__ == "__main__":
  sys.exit(main())
