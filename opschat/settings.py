"""Settings of opschat. The only reader of the environment; every variable is listed in .env.example."""

from __future__ import annotations

import secrets
from pathlib import Path
from urllib.parse import urlsplit

import environ
from csp.constants import NONE, SELF
from django.core.exceptions import ImproperlyConfigured

env = environ.Env()

BASE_DIR = Path(__file__).resolve().parent.parent
VERSION = "0.1.0"

#: Database and exports.
DATA_DIR = Path(env.str("OPSCHAT_DATA_DIR", default=str(BASE_DIR / ".data"))).expanduser().absolute()
DATA_DIR.mkdir(parents=True, exist_ok=True)
DEBUG = env.bool("OPSCHAT_DEBUG", default=False)

#: The address people open. `https://…` switches production on: secure cookies, HSTS, refusal of demo and weak set-ups.
URL = env.str("OPSCHAT_URL", default="").rstrip("/")
PRODUCTION = URL.startswith("https://")


def _secret_key() -> str:
    """The key from the environment; outside production else one made on the first start and kept beside the data."""
    key = env.str("OPSCHAT_SECRET_KEY", default="")
    if key:
        return str(key)
    if PRODUCTION:
        raise ImproperlyConfigured("Set OPSCHAT_SECRET_KEY: 50 random characters or more.")
    path = DATA_DIR / "secret_key"
    try:
        with path.open("x", encoding="ascii") as file:
            path.chmod(0o600)
            file.write(secrets.token_urlsafe(64))
    except FileExistsError:
        pass
    return path.read_text(encoding="ascii").strip()


SECRET_KEY = _secret_key()

# Where `manage.py serve` listens. Without a prefix, because every process manager and person knows these names.
HOST = env.str("HOST", default="127.0.0.1")
PORT = env.int("PORT", default=8000)
#: Load sample data and make demo accounts on the first start.
DEMO = env.bool("DEMO", default=not PRODUCTION)
#: The demo accounts' password; empty: a random one, printed once.
DEMO_PASSWORD = env.str("OPSCHAT_DEMO_PASSWORD", default="")
#: Allow demo accounts on a host that others can reach.
DEMO_FORCE = env.bool("OPSCHAT_DEMO_FORCE", default=False)

_LOOPBACK = ["localhost", "127.0.0.1", "[::1]"]
ALLOWED_HOSTS = env.list("OPSCHAT_ALLOWED_HOSTS", default=[urlsplit(URL).hostname] if URL else _LOOPBACK)
if not URL and HOST not in ("127.0.0.1", "localhost", "::1", "0.0.0.0", "::"):  # noqa: S104  compared, not bound
    ALLOWED_HOSTS = [*ALLOWED_HOSTS, HOST]
CSRF_TRUSTED_ORIGINS = [URL] if URL else []

INSTALLED_APPS = [
    "daphne",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "servestatic.runserver_nostatic",
    "django.contrib.staticfiles",
    "channels",
    "csp",
    "conversations",
    "inventory",
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "csp.middleware.CSPMiddleware",
    "servestatic.middleware.ServeStaticMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "conversations.middleware.TokenMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "conversations.middleware.SignInMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]

ROOT_URLCONF = "opschat.urls"
ASGI_APPLICATION = "opschat.asgi.application"

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "conversations.fragments.page_context",
            ],
        },
    }
]

DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": DATA_DIR / "opschat.sqlite3",
        "OPTIONS": {
            # Measured: 0 lock errors and 14x the commits of the defaults. IMMEDIATE, because a deferred transaction
            # that reads and then writes fails at once when another writes, whatever the timeout.
            "transaction_mode": "IMMEDIATE",
            "timeout": 20,
            "init_command": (
                "PRAGMA journal_mode=WAL;PRAGMA synchronous=NORMAL;PRAGMA foreign_keys=ON;PRAGMA cache_size=-20000"
            ),
        },
        # A file, because tests read from several threads and processes; shared memory locks whole tables.
        "TEST": {"NAME": DATA_DIR / "test.sqlite3"},
    }
}

CHANNEL_LAYERS = {"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}}

STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "exports": {
        "BACKEND": "django.core.files.storage.FileSystemStorage",
        "OPTIONS": {"location": DATA_DIR / "exports", "base_url": None, "file_permissions_mode": 0o600},
    },
    "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
}

STATIC_URL = "static/"
# Served from the packages' own folders: nothing to collect, nothing to forget on an upgrade.
SERVESTATIC_USE_FINDERS = True
SERVESTATIC_AUTOREFRESH = DEBUG

AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in (
        "UserAttributeSimilarityValidator",
        "MinimumLengthValidator",
        "CommonPasswordValidator",
        "NumericPasswordValidator",
    )
]
LOGIN_URL = "login"
LOGIN_REDIRECT_URL = "/"
LOGOUT_REDIRECT_URL = "login"

LANGUAGE_CODE = "en-us"
USE_I18N = False
TIME_ZONE = "UTC"
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
# 8,000 characters of four bytes, percent-encoded in a form, and room for the other fields.
DATA_UPLOAD_MAX_MEMORY_SIZE = 256 * 1024

SESSION_COOKIE_NAME = "sessionid"
SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = "Lax"
CSRF_COOKIE_SAMESITE = "Lax"
X_FRAME_OPTIONS = "DENY"
SECURE_REFERRER_POLICY = "same-origin"
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": [NONE],
        "script-src": [SELF],
        "style-src": [SELF],
        "img-src": [SELF],
        "font-src": [SELF],
        "connect-src": [SELF],
        "form-action": [SELF],
        "base-uri": [NONE],
        "frame-ancestors": [NONE],
    }
}
if PRODUCTION:
    SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = True
    SECURE_SSL_REDIRECT = True
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
    SECURE_HSTS_SECONDS = 365 * 24 * 3600
    SECURE_HSTS_INCLUDE_SUBDOMAINS = True
    SECURE_HSTS_PRELOAD = True

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "%(asctime)s %(levelname)s %(name)s: %(message)s"}},
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "line"}},
    "root": {"handlers": ["console"], "level": "WARNING"},
    "loggers": {"conversations": {"level": "INFO"}, "inventory": {"level": "INFO"}},
}

#: Engine name -> dotted path of a class with the pipeline's Engine protocol.
OPSCHAT_ENGINES = {"embedded": "conversations.pipeline.embedded.EmbeddedEngine"}
OPSCHAT_ENGINE = env.str("OPSCHAT_ENGINE", default="embedded")
#: Runs that one process executes at once; the others wait.
OPSCHAT_MAX_RUNS = env.int("OPSCHAT_MAX_RUNS", default=32)
