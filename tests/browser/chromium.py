"""Finds the browser of the tests; run as a program, installs one when there is none and it can.

python -m tests.browser.chromium
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
INSTALL = "apt-get update && apt-get install -y --no-install-recommends chromium"

#: Quiet, and without a sandbox for root, whom Chromium refuses one.
ARGUMENTS = [
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    *(["--no-sandbox"] if os.geteuid() == 0 else []),
]


def find() -> str | None:
    """Path of a Chromium that starts: OPSCHAT_TEST_CHROMIUM, else from PATH, else Playwright's own."""
    chosen = os.environ.get("OPSCHAT_TEST_CHROMIUM")
    if chosen:
        return chosen
    for name in NAMES:
        path = shutil.which(name)
        if path and starts(path):
            return path
    with sync_playwright() as playwright:
        own = playwright.chromium.executable_path
    return own if Path(own).exists() else None


def starts(path: str) -> bool:
    """On Ubuntu `chromium-browser` may be a script that only says how to install the real one."""
    try:
        return subprocess.run([path, "--version"], check=False, capture_output=True, timeout=30).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def install() -> None:
    """Raises SystemExit naming the command when it may not or can't."""
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        sys.exit(
            f"The browser tests need Chromium. Install it, on Debian as root:\n  {INSTALL}\n"
            "or name one: OPSCHAT_TEST_CHROMIUM=/path/to/chromium make test"
        )
    print(f"Installing Chromium for the browser tests: {INSTALL}", file=sys.stderr, flush=True)
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    if subprocess.run(["/bin/sh", "-c", INSTALL], check=False, stdout=sys.stderr, env=environment).returncode != 0:
        sys.exit(f"Could not install Chromium: see the lines above. The command was:\n  {INSTALL}")


def main() -> None:
    if find():
        return
    install()
    if not find():
        sys.exit("Chromium was installed, but does not start: run `chromium --version`.")


if __name__ == "__main__":
    main()
