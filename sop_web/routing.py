"""Every socket of the product."""

from channels.auth import AuthMiddlewareStack
from channels.routing import ProtocolTypeRouter, URLRouter
from django.core.asgi import get_asgi_application
from django.urls import path

http = get_asgi_application()

from fleet.routing import sockets  # noqa: E402  (needs the apps that the line above loads)

application = ProtocolTypeRouter(
    {
        "http": http,
        "websocket": AuthMiddlewareStack(URLRouter([path(p, app) for p, app in sockets])),
    }
)
