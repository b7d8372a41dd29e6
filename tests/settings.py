"""opschat's settings for most tests: what the product has, but passwords are hashed in no time."""

from __future__ import annotations

from opschat.settings import *  # noqa: F403  settings are laid over settings

#: Django's takes a quarter of a second at each sign-in, by design; `tests/process` and `tests/test_sign_in.py` have it.
PASSWORD_HASHERS = ["tests.hashing.QuickHasher"]
