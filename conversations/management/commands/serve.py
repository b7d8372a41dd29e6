from __future__ import annotations

import ipaddress
import socket
from typing import Any

from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError
from django.db import connection
from django.db.migrations.executor import MigrationExecutor

from conversations import runner


class Command(BaseCommand):
    help = "Prepares the database, then serves pages, sockets and the API with daphne; reads PORT, HOST and DEMO."

    def handle(self, *args: Any, **options: Any) -> None:
        _check_address(settings.HOST, settings.PORT)
        if MigrationExecutor(connection).migration_plan(MigrationExecutor(connection).loader.graph.leaf_nodes()):
            call_command("migrate", verbosity=0, interactive=False)
        self._prepare_data()
        self.stdout.write(f"\nopschat {settings.VERSION} serves on {_address()}\nOpen it in a browser; Ctrl+C stops.")
        self.stdout.flush()
        connection.close()
        _serve(settings.HOST, settings.PORT)
        if runner.failure is not None:
            raise CommandError(str(runner.failure)) from runner.failure

    def _prepare_data(self) -> None:
        if settings.DEMO:
            call_command("seed_demo", stdout=self.stdout)
        elif not get_user_model().objects.exists():
            self.stdout.write(
                "There are no accounts and no assets yet. Go on with:\n"
                '  make manage ARGS="createsuperuser"\n'
                '  make manage ARGS="import_assets FILE.csv"'
            )


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


def _serve(host: str, port: int) -> None:
    """Runs daphne here until SIGINT or SIGTERM; the runner starts and stops with it (see opschat/asgi.py)."""
    from daphne.endpoints import build_endpoint_description_strings  # noqa: PLC0415  installs its reactor at import
    from daphne.server import Server  # noqa: PLC0415
    from django.utils.module_loading import import_string  # noqa: PLC0415

    module, _, name = settings.ASGI_APPLICATION.rpartition(".")
    Server(
        application=import_string(f"{module}.{name}"),
        endpoints=build_endpoint_description_strings(host=host, port=port),
        server_name="opschat",
        # The tasks of open sockets and streams are ended by the stop hook, not by a timer.
        application_close_timeout=5,
    ).run()
