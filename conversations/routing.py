"""Which addresses are not Django's: the sockets and the streaming API."""

from __future__ import annotations

from typing import Any

from channels.auth import AuthMiddlewareStack
from channels.routing import ProtocolTypeRouter, URLRouter
from channels.security.websocket import AllowedHostsOriginValidator
from django.urls import path

from conversations import stream
from conversations.consumers import ConversationConsumer

websocket_urlpatterns = [path("ws/conversations/<uuid:conversation_id>/", ConversationConsumer.as_asgi())]


def protocols(django: Any) -> ProtocolTypeRouter:
    """The ASGI application around Django's."""

    async def http(scope: Any, receive: Any, send: Any) -> None:
        chosen = stream.application if stream.handles(scope["path"]) else django
        await chosen(scope, receive, send)

    # Without the origin check any site could open our socket with the visitor's cookie.
    websocket = AllowedHostsOriginValidator(AuthMiddlewareStack(URLRouter(websocket_urlpatterns)))
    return ProtocolTypeRouter({"http": http, "websocket": websocket})
