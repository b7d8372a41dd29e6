"""Which addresses are not Django's: sockets, the streaming API, what machines ask; and what its middleware would do."""

from __future__ import annotations

from typing import Any

from channels.auth import AuthMiddlewareStack
from channels.routing import ProtocolTypeRouter, URLRouter
from channels.security.websocket import WebsocketDenier
from django.conf import settings
from django.http.request import split_domain_port, validate_host
from django.urls import path, re_path

from conversations import health, stream
from conversations.consumers import ConversationConsumer
from conversations.handler import security_headers

websocket_urlpatterns = [
    path("ws/conversations/<uuid:conversation_id>/", ConversationConsumer.as_asgi()),
    # Any other address is refused as an unknown conversation is; without it channels raises ValueError.
    re_path("", WebsocketDenier.as_asgi()),
]


def protocols(django: Any) -> ProtocolTypeRouter:
    """The ASGI application around Django's."""

    async def http(scope: Any, receive: Any, send: Any) -> None:
        beside = next((part for part in (stream, health) if part.handles(scope["path"])), None)
        if beside is not None:
            await beside.application(scope, receive, _with_headers(send))
        else:
            await django(scope, receive, send)

    return ProtocolTypeRouter(
        {"http": http, "websocket": _own_pages(AuthMiddlewareStack(URLRouter(websocket_urlpatterns)))}
    )


def _own_pages(application: Any) -> Any:
    """Without the origin check any site could open our socket with the visitor's cookie."""

    async def checked(scope: Any, receive: Any, send: Any) -> None:
        await (application if _is_ours(scope) else WebsocketDenier())(scope, receive, send)

    return checked


def _is_ours(scope: Any) -> bool:
    """Whether a page of the very address that it connects to opens the socket, as Django asks of forms.

    The port counts, unlike in channels' own validator: cookies know no ports, so another server on this machine would
    be let in. So does the scheme, which in production is https: behind the proxy that ends TLS the scope says ws.
    """
    headers = dict(scope["headers"])
    origin, host = (headers.get(name, b"").decode("latin-1").lower() for name in (b"origin", b"host"))
    if origin in settings.CSRF_TRUSTED_ORIGINS:
        return True
    domain, _ = split_domain_port(host)
    scheme = "https" if settings.PRODUCTION or scope.get("scheme") == "wss" else "http"
    return validate_host(domain, settings.ALLOWED_HOSTS) and origin == f"{scheme}://{host}"


def _with_headers(send: Any) -> Any:
    """The headers that Django's middleware gives to every answer of its own."""

    async def send_with(message: Any) -> None:
        if message["type"] == "http.response.start":
            given = {name for name, _ in message["headers"]}
            ours = [(name.lower().encode(), value.encode()) for name, value in security_headers().items()]
            message = {**message, "headers": [*message["headers"], *(pair for pair in ours if pair[0] not in given)]}
        await send(message)

    return send_with
