from __future__ import annotations

import ipaddress
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.checks import WARNING
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import connection
from django.db.backends.utils import CursorWrapper
from django.utils.module_loading import import_string

from conversations import runner
from conversations.checks import trouble_with_bucket, trouble_with_database, trouble_with_redis

#: Bytes of the longest frame that a browser may send: the pages send none, their sockets only receive.
_MAX_SOCKET_FRAME = 4096
#: Bytes of the longest message. daphne also holds what it sends to it, and a run is drawn in one message.
_MAX_SOCKET_MESSAGE = 16 * 1024 * 1024
#: Seconds between pings of an open socket, and seconds without an answer after which it is closed.
_PING_EVERY_S = 20
_PONG_WITHIN_S = 20
#: Seconds that a stopping server leaves to what is still being sent; its open sockets and streams end at once.
_CLOSE_WITHIN_S = 5
#: Number of the lock under which a server prepares the database; any number, the same in all versions.
_PREPARING = 7_316_031


class Command(BaseCommand):
    help = "Prepares the database, then serves pages, sockets and the API; reads PORT, HOST and DEMO."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--server", choices=sorted(_SERVERS), default="daphne", help="default: daphne")

    def handle(self, *args: Any, **options: Any) -> None:
        if settings.PRODUCTION:
            self.check(include_deployment_checks=True, fail_level=WARNING)
        serve = _SERVERS[options["server"]]()
        _check_address(settings.HOST, settings.PORT)
        self._prepare()
        self.stdout.write(f"\nopschat {settings.VERSION} serves on {_address()}\nOpen it in a browser; Ctrl+C stops.")
        self.stdout.flush()
        connection.close()
        serve(settings.HOST, settings.PORT)
        if runner.failure is not None:
            raise CommandError(str(runner.failure)) from runner.failure

    def _prepare(self) -> None:
        """Raises CommandError when the database can't be used."""
        if trouble := trouble_with_database(migrated=False):
            raise CommandError(trouble)
        if trouble := trouble_with_redis():
            self.stderr.write(f"{trouble} What other processes do is shown a second late until it can.")
        if trouble := trouble_with_bucket():
            self.stderr.write(f"{trouble} Exports fail until it can.")
        with _one_at_a_time():
            if trouble_with_database():
                call_command("migrate", verbosity=0, interactive=False)
            self._prepare_data()

    def _prepare_data(self) -> None:
        if settings.DEMO:
            call_command("seed_demo", stdout=self.stdout)
        elif not get_user_model().objects.exists():
            self.stdout.write(
                "There are no accounts and no assets yet. Go on with:\n"
                '  make manage ARGS="createsuperuser"\n'
                '  make manage ARGS="import_assets FILE.csv"'
            )


@contextmanager
def _one_at_a_time() -> Iterator[None]:
    """Of the servers that start on one PostgreSQL: they would make the same tables. SQLite has one server."""
    if connection.vendor != "postgresql":
        yield
        return
    with connection.cursor() as cursor:
        # Asked again and again: who waits inside a query would hold up an index that is made concurrently.
        while not _has_lock(cursor):
            time.sleep(0.2)
        try:
            yield
        finally:
            cursor.execute("SELECT pg_advisory_unlock(%s)", [_PREPARING])


def _has_lock(cursor: CursorWrapper) -> bool:
    """Takes the lock when it is free; it is the connection's, and ends with it."""
    cursor.execute("SELECT pg_try_advisory_lock(%s)", [_PREPARING])
    (taken,) = cursor.fetchone()
    return bool(taken)


def _address() -> str:
    host = "127.0.0.1" if settings.HOST in ("0.0.0.0", "::", "") else settings.HOST  # noqa: S104  compared, not bound
    return settings.URL or f"http://{f'[{host}]' if ':' in host else host}:{settings.PORT}"


def _check_address(host: str, port: int) -> None:
    """Fails before any work is done, and in words, when the address can't be bound."""
    family = socket.AF_INET6 if _is_ipv6(host) else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except (OSError, OverflowError) as error:
            raise CommandError(
                f"Can't listen on {host}:{port} ({error}). HOST and PORT choose another address: PORT=8001 make run"
            ) from error


def _is_ipv6(host: str) -> bool:
    try:
        return isinstance(ipaddress.ip_address(host), ipaddress.IPv6Address)
    except ValueError:
        return False


def _application() -> Any:
    module, _, name = settings.ASGI_APPLICATION.rpartition(".")
    return import_string(f"{module}.{name}")


# -- Servers ---------------------------------------------------------------------------------------------------------

#: Serves on a host and port until SIGINT or SIGTERM; the runner starts and stops with it (see opschat/asgi.py).
Serve = Callable[[str, int], None]


def _daphne() -> Serve:
    from daphne.endpoints import build_endpoint_description_strings  # noqa: PLC0415  installs its reactor at import

    from conversations.management.patience import PatientServer  # noqa: PLC0415  as above

    def serve(host: str, port: int) -> None:
        PatientServer(
            application=_application(),
            endpoints=build_endpoint_description_strings(host=host, port=port),
            server_name="opschat",
            websocket_max_message_size=_MAX_SOCKET_MESSAGE,
            websocket_max_frame_size=_MAX_SOCKET_FRAME,
            ping_interval=_PING_EVERY_S,
            ping_timeout=_PONG_WITHIN_S,
            # The tasks of open sockets and streams are ended by the stop hook, not by a timer.
            application_close_timeout=_CLOSE_WITHIN_S,
            stall_s=settings.OPSCHAT_STALL_S,
        ).run()

    return serve


def _uvicorn() -> Serve:
    """Raises CommandError when uvicorn is not installed."""
    try:
        import uvicorn  # noqa: PLC0415  an extra
        import websockets  # noqa: F401, PLC0415  without it uvicorn serves pages whose sockets don't open
    except ImportError as error:
        raise CommandError(
            f"uvicorn can't serve: {error}. `make run` installs it from the lock; by hand: pip install '.[uvicorn]'"
        ) from error

    def serve(host: str, port: int) -> None:
        server = uvicorn.Server(
            uvicorn.Config(
                _application(),
                host=host,
                port=port,
                lifespan="on",
                ws="websockets-sansio",
                ws_max_size=_MAX_SOCKET_FRAME,
                ws_ping_interval=_PING_EVERY_S,
                ws_ping_timeout=_PONG_WITHIN_S,
                timeout_graceful_shutdown=_CLOSE_WITHIN_S,
                # Addresses as daphne tells them: a header that any client can send is not one.
                proxy_headers=False,
                # Warnings and errors go where ours go; like daphne it writes no line per request.
                log_config=None,
                access_log=False,
                server_header=False,
                headers=[("Server", "opschat")],
            )
        )
        _run_until_signal(server)

    return serve


def _run_until_signal(server: Any) -> None:
    """uvicorn ends by the signal that stopped it, which a shell would show as a failure: here it is the normal end."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        server.run()
    except KeyboardInterrupt:
        pass
    except SystemExit as ending:
        # `handle` says why the runner did not start.
        if ending.code and runner.failure is None:
            raise


_SERVERS: dict[str, Callable[[], Serve]] = {"daphne": _daphne, "uvicorn": _uvicorn}
