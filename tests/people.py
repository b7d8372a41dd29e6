"""What the people of the tests share."""

from __future__ import annotations

#: Of every test user, and of the demo accounts of a server under test.
PASSWORD = "correct horse battery"
