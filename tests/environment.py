"""Given to pytest as `-p tests.environment`, so that it is read before Django is: the settings of a test run.

Nothing of the caller's leaks in, and nothing is written outside a folder that goes when the run ends. OPSCHAT_TEST_…
variables are the tests' own and stay.
"""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path


def without_settings(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment without what opschat reads."""
    return {
        name: value
        for name, value in environment.items()
        if name not in ("HOST", "PORT", "DEMO", "DATABASE_URL", "REDIS_URL", "DJANGO_SETTINGS_MODULE")
        and (not name.startswith("OPSCHAT_") or name.startswith("OPSCHAT_TEST_"))
    }


for _name in os.environ.keys() - without_settings(os.environ).keys():
    del os.environ[_name]

DATA_DIR = Path(tempfile.mkdtemp(prefix="opschat-test-"))
atexit.register(shutil.rmtree, DATA_DIR, ignore_errors=True)
os.environ["OPSCHAT_DATA_DIR"] = str(DATA_DIR)
