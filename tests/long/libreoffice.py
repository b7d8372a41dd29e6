"""Finds LibreOffice's spreadsheet for the tests that open files in it; installs it when there is none and it can."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

INSTALL = "apt-get update && apt-get install -y --no-install-recommends libreoffice-calc"


def find() -> str:
    """The path of `soffice`. Raises AssertionError naming the command when it is missing and may not be installed."""
    found = shutil.which("soffice")
    if found is None:
        _install()
        found = shutil.which("soffice")
    assert found, "libreoffice-calc was installed, but there is no `soffice` on PATH."
    return found


def _install() -> None:
    may_install = os.geteuid() == 0 and shutil.which("apt-get")
    assert may_install, f"These tests need LibreOffice Calc. Install it, on Debian as root:\n  {INSTALL}"
    print(f"Installing LibreOffice for the tests: {INSTALL}", file=sys.stderr, flush=True)
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    done = subprocess.run(["/bin/sh", "-c", INSTALL], check=False, stdout=sys.stderr, env=environment)
    assert done.returncode == 0, f"Could not install LibreOffice: see the lines above. The command was:\n  {INSTALL}"
