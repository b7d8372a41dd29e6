from __future__ import annotations

from django.contrib.auth.hashers import PBKDF2PasswordHasher


class QuickHasher(PBKDF2PasswordHasher):
    """Not for anybody's real password. Django's own reads its hashes too."""

    iterations = 100
