"""Settings of opschat. The only reader of the environment; every variable is listed in .env.example."""

from __future__ import annotations

import ipaddress
import re
import secrets
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import environ
from csp.constants import NONE, SELF
from django.core.exceptions import ImproperlyConfigured
from django.http.request import validate_host

from opschat import logs

env = environ.Env()

BASE_DIR = Path(__file__).resolve().parent.parent
VERSION = "0.1.0"

#: Database and exports.
DATA_DIR = Path(env.str("OPSCHAT_DATA_DIR", default=str(BASE_DIR / ".data"))).expanduser().absolute()
DATA_DIR.mkdir(parents=True, exist_ok=True)
DEBUG = env.bool("OPSCHAT_DEBUG", default=False)

_DEFAULT_PORTS = {"http": 80, "https": 443}
_HOST = re.compile(r"[a-z0-9_-]+(\.[a-z0-9_-]+)*|[0-9a-f:.]*:[0-9a-f:.]*")


def _address(text: str) -> str:
    """`scheme://host[:port]` as browsers write it in Origin. Raises ImproperlyConfigured for anything else."""
    wrong = ImproperlyConfigured(
        f"OPSCHAT_URL is {text!r}. Write the address that people open, without a path: https://chat.example.org"
    )
    try:
        parts = urlsplit(text)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        raise wrong from None
    rest = (parts.path.rstrip("/"), parts.query, parts.fragment, parts.username, parts.password)
    if parts.scheme not in _DEFAULT_PORTS or any(rest) or not _HOST.fullmatch(host):
        raise wrong
    shown = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{shown}" + (f":{port}" if port not in (None, _DEFAULT_PORTS[parts.scheme]) else "")


_given_url = env.str("OPSCHAT_URL", default="").strip()
#: The address people open. `https://…` switches production on: secure cookies, HSTS, refusal of demo and weak set-ups.
URL = _address(_given_url) if _given_url else ""
PRODUCTION = URL.startswith("https://")
if PRODUCTION and DEBUG:
    raise ImproperlyConfigured("OPSCHAT_DEBUG shows tracebacks to everybody: unset it, or OPSCHAT_URL's https://.")

_SHORTEST_KEY = 50


def _secret_key() -> str:
    """The key from the environment; outside production else one made on the first start and kept beside the data."""
    key: str = env.str("OPSCHAT_SECRET_KEY", default="").strip()
    path = DATA_DIR / "secret_key"
    if PRODUCTION:
        made = path.read_text(encoding="ascii").strip() if path.exists() else ""
        return _checked_key(key, made)
    if key:
        return key
    try:
        with path.open("x", encoding="ascii") as file:
            path.chmod(0o600)
            file.write(secrets.token_urlsafe(64))
    except FileExistsError:
        pass
    return path.read_text(encoding="ascii").strip()


def _checked_key(key: str, made: str) -> str:
    """The key for production, which nothing else may know. `made`: the one that a start without https:// has made."""
    advice = 'Make one: python3 -c "import secrets; print(secrets.token_urlsafe(64))"'
    if not key:
        raise ImproperlyConfigured(f"OPSCHAT_SECRET_KEY is missing; with an https:// address it is needed. {advice}")
    if len(key) < _SHORTEST_KEY or len(set(key)) < _SHORTEST_KEY // 5 or key.startswith("django-insecure-"):
        raise ImproperlyConfigured(f"OPSCHAT_SECRET_KEY is not {_SHORTEST_KEY} random characters or more. {advice}")
    if key == made:
        raise ImproperlyConfigured(f"OPSCHAT_SECRET_KEY is the one made for trying out, in {DATA_DIR}. {advice}")
    return key


SECRET_KEY = _secret_key()
#: Keys of before: what they signed is still believed.
SECRET_KEY_FALLBACKS = env.list("OPSCHAT_SECRET_KEY_FALLBACKS", default=[])

# Where `manage.py serve` listens. Without a prefix, because every process manager and person knows these names.
HOST = env.str("HOST", default="127.0.0.1")
PORT = env.int("PORT", default=8000)
#: Load sample data and make demo accounts on the first start.
DEMO = env.bool("DEMO", default=not PRODUCTION)
#: The demo accounts' password; empty: a random one, printed once.
DEMO_PASSWORD = env.str("OPSCHAT_DEMO_PASSWORD", default="")
#: Allow demo accounts on a host that others can reach.
DEMO_FORCE = env.bool("OPSCHAT_DEMO_FORCE", default=False)


def _allowed_hosts() -> list[str]:
    """Names in the Host header that are answered. In production they are named, and the address people open is one."""
    host = urlsplit(URL).netloc.removesuffix(f":{urlsplit(URL).port}")
    given: str = env.str("OPSCHAT_ALLOWED_HOSTS", default="")
    if not given.strip():
        return [host] if URL else ["localhost", "127.0.0.1", "[::1]"]
    names = [name.strip() for name in given.split(",") if name.strip()]
    if PRODUCTION and ("*" in names or not any(validate_host(host, [name]) for name in names)):
        raise ImproperlyConfigured(
            f"OPSCHAT_ALLOWED_HOSTS is {given!r}. Name every host that is answered, without *, among them {host}."
        )
    return names


ALLOWED_HOSTS = _allowed_hosts()
CSRF_TRUSTED_ORIGINS = [URL] if URL else []


def _networks(given: str) -> list[ipaddress.IPv4Network | ipaddress.IPv6Network]:
    """Raises ImproperlyConfigured for what is neither an address nor a network."""
    try:
        return [ipaddress.ip_network(entry.strip()) for entry in given.split(",") if entry.strip()]
    except ValueError as error:
        raise ImproperlyConfigured(
            f"OPSCHAT_TRUSTED_PROXIES is {given!r}: {error}. Write addresses or networks: 127.0.0.1, 10.1.0.0/16"
        ) from None


#: Proxies whose X-Forwarded-For says who asks (`audit.origin_of`).
OPSCHAT_TRUSTED_PROXIES = _networks(env.str("OPSCHAT_TRUSTED_PROXIES", default=""))

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
    "axes",
    "conversations",
    "inventory",
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "csp.middleware.CSPMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "conversations.middleware.AnswersMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "conversations.middleware.TokenMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "conversations.middleware.SignInMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    # Last, says its documentation.
    "axes.middleware.AxesMiddleware",
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
            "builtins": ["conversations.fragments.characters"],
        },
    }
]

_POSTGRES = "django.db.backends.postgresql"
_SQLITE = {
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


def _postgres(url: str) -> dict[str, Any]:
    """`postgres://user:password@host:port/name`. Raises ImproperlyConfigured for any other database."""
    database: dict[str, Any] = env.db_url_config(url)
    if database.get("ENGINE") != _POSTGRES or not database.get("NAME"):
        raise ImproperlyConfigured("DATABASE_URL is not postgres://user:password@host:port/name. Unset it for SQLite.")
    # channels signs sockets in with a thread for each, which without a pool would connect anew.
    options = {
        "pool": {"min_size": 1, "max_size": 64, "timeout": 10},
        "application_name": "opschat",
        # Who is frozen or cut off in a transaction keeps its runs locked: PostgreSQL ends it when the lease ends.
        "options": "-c idle_in_transaction_session_timeout=4000",
    }
    return {
        **database,
        "OPTIONS": {**options, **database.get("OPTIONS", {})},
        # A connection that a restart of PostgreSQL broke in the pool is replaced before it is used.
        "CONN_HEALTH_CHECKS": True,
    }


_database_url = env.str("DATABASE_URL", default="").strip()
DATABASES = {"default": _postgres(_database_url) if _database_url else _SQLITE}

#: `redis://host:port/0`: several processes serve and execute; see docs/operations.md.
REDIS_URL = env.str("REDIS_URL", default="").strip()
# The layer between processes (conversations/bus.py). Not the default one, which Channels subscribes to for each socket.
_BUS = {
    "BACKEND": "channels_redis.pubsub.RedisPubSubChannelLayer",
    "CONFIG": {"hosts": [{"address": REDIS_URL, "socket_connect_timeout": 2, "socket_timeout": 5}]},
}
CHANNEL_LAYERS = {"bus": _BUS} if REDIS_URL else {}
#: Runs are executed by `manage.py worker` processes, not by the server's own.
DISTRIBUTED = bool(_database_url and REDIS_URL)
if DISTRIBUTED:
    INSTALLED_APPS.append("procrastinate.contrib.django")
    # Its task is registered by the worker (conversations/jobs.py).
    PROCRASTINATE_AUTODISCOVER_MODULE_NAME = ""

#: Exports are in this S3 bucket, of a region or of another provider's endpoint; empty: in the data folder. Keys and
#: roles are boto3's own matter.
OPSCHAT_EXPORT_BUCKET = env.str("OPSCHAT_EXPORT_BUCKET", default="").strip()
OPSCHAT_S3_ENDPOINT = env.str("OPSCHAT_S3_ENDPOINT", default="").strip()
OPSCHAT_S3_REGION = env.str("OPSCHAT_S3_REGION", default="").strip()


def _exports() -> dict[str, Any]:
    """The storage of exports. A name in it is the content's own: the same name is the same file."""
    if not OPSCHAT_EXPORT_BUCKET:
        options = {
            "location": DATA_DIR / "exports",
            "base_url": None,
            "file_permissions_mode": 0o600,
            "directory_permissions_mode": 0o700,
            "allow_overwrite": True,
        }
        return {"BACKEND": "django.core.files.storage.FileSystemStorage", "OPTIONS": options}
    where = {"endpoint_url": OPSCHAT_S3_ENDPOINT or None, "region_name": OPSCHAT_S3_REGION or None}
    # Nobody but opschat reads them: no ACL of their own, no addresses.
    options = {"bucket_name": OPSCHAT_EXPORT_BUCKET, "default_acl": None, "querystring_auth": False}
    return {"BACKEND": "conversations.bucket.BucketStorage", "OPTIONS": {"file_overwrite": True, **where, **options}}


STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "exports": _exports(),
    # Files to import, from one step to the next. A folder, because imports read files by their path.
    "uploads": {
        "BACKEND": "django.core.files.storage.FileSystemStorage",
        "OPTIONS": {
            "location": DATA_DIR / "uploads",
            "base_url": None,
            "file_permissions_mode": 0o600,
            "directory_permissions_mode": 0o700,
        },
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
# The first signs nobody in: it refuses those who are locked out.
AUTHENTICATION_BACKENDS = ["axes.backends.AxesStandaloneBackend", "django.contrib.auth.backends.ModelBackend"]
LOGIN_URL = "login"
LOGIN_REDIRECT_URL = "/"
LOGOUT_REDIRECT_URL = "login"

# Sign-in is throttled per account and address together: after 5 failures it is refused for 5 minutes, even with the
# right password; other addresses and other accounts are not. Tries meanwhile don't prolong it, signing in forgets the
# failures.
AXES_FAILURE_LIMIT = 5
AXES_COOLOFF_TIME = timedelta(minutes=5)
AXES_LOCKOUT_PARAMETERS = [["username", "ip_address"]]
AXES_RESET_ON_SUCCESS = True
AXES_RESET_COOL_OFF_ON_FAILURE_DURING_LOCKOUT = False
AXES_USERNAME_CALLABLE = "conversations.views.sign_in.throttled_name"
AXES_CLIENT_IP_CALLABLE = "conversations.views.sign_in.throttled_address"
AXES_LOCKOUT_CALLABLE = "conversations.views.sign_in.locked_out"
# Who signed in and who was locked out is in the audit trail.
AXES_ENABLE_ADMIN = False
AXES_DISABLE_ACCESS_LOG = True
AXES_VERBOSE = False
# It keeps the form of a failed try, and masks these fields; `password` always.
AXES_SENSITIVE_PARAMETERS = [
    *("username", "ip_address", "csrfmiddlewaretoken", "next"),
    *("old_password", "new_password1", "new_password2"),
]

LANGUAGE_CODE = "en-us"
USE_I18N = False
TIME_ZONE = "UTC"
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
# 8,000 characters of four bytes, percent-encoded in a form, and room for the other fields.
DATA_UPLOAD_MAX_MEMORY_SIZE = 256 * 1024
#: Bytes of a file that is uploaded to be imported; views that take one say so (conversations/middleware.py).
OPSCHAT_MAX_UPLOAD = env.int("OPSCHAT_MAX_UPLOAD_MB", default=200) * 1024 * 1024

SESSION_ENGINE = "conversations.sessions"
SESSION_COOKIE_NAME = "sessionid"
SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = "Lax"
CSRF_COOKIE_SAMESITE = "Lax"
CSRF_FAILURE_VIEW = "conversations.views.errors.not_sent"
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


LOGGING = logs.LOGGING
#: Engine name -> dotted path of a class with the pipeline's Engine protocol.
OPSCHAT_ENGINES = {
    "embedded": "conversations.pipeline.embedded.EmbeddedEngine",
    # For benchmarks; refused in production.
    "paced": "conversations.pipeline.paced.PacedEngine",
}
#: Files are written here, on the disk of the exports, before the storage takes them whole.
OPSCHAT_SCRATCH_DIR = DATA_DIR / "scratch"
#: Seconds in which a client has to take a piece of what daphne sends, or its connection is cut.
OPSCHAT_STALL_S = 60.0
#: Days that an export is kept; 0: for ever.
OPSCHAT_EXPORT_DAYS = env.int("OPSCHAT_EXPORT_DAYS", default=30)
if OPSCHAT_EXPORT_DAYS not in range(36_501):
    raise ImproperlyConfigured("OPSCHAT_EXPORT_DAYS is not a number of days from 0 (for ever) to 36500.")

OPSCHAT_ENGINE = env.str("OPSCHAT_ENGINE", default="embedded")
#: Runs that one process executes at once; the others wait.
OPSCHAT_MAX_RUNS = env.int("OPSCHAT_MAX_RUNS", default=150)

_SHORTEST_METRICS_TOKEN = 20


def _metrics_token() -> str:
    """Empty: only tokens of staff users read /metrics."""
    token: str = env.str("OPSCHAT_METRICS_TOKEN", default="").strip()
    if token and (len(token) < _SHORTEST_METRICS_TOKEN or not token.isascii()):
        raise ImproperlyConfigured(f"OPSCHAT_METRICS_TOKEN is not {_SHORTEST_METRICS_TOKEN} ASCII characters or more.")
    return token


OPSCHAT_METRICS_TOKEN = _metrics_token()
#: Where `manage.py worker`, which has no pages, answers scrapes, on HOST and without a token; 0: nowhere.
OPSCHAT_METRICS_PORT = env.int("OPSCHAT_METRICS_PORT", default=0)
