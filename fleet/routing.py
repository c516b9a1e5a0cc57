"""Sockets of the fleet app: (path, ASGI application)."""

sockets = []
