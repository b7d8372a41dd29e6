#!/usr/bin/env python
"""Django's command-line tool for opschat."""

from __future__ import annotations

import os
import sys


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "opschat.settings")
    from django.core.management import execute_from_command_line  # noqa: PLC0415  needs the environment set

    execute_from_command_line(sys.argv)


if __name__ == "__main__":
    main()
