"""Content-Security-Policy on every response: no inline script, no inline style, nothing foreign."""

from collections.abc import Callable

from django.conf import settings
from django.http import HttpRequest, HttpResponse


class ContentSecurityPolicyMiddleware:
    """Set the header from `settings.CONTENT_SECURITY_POLICY`."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response
        self.header = "; ".join(f"{k} {v}" for k, v in settings.CONTENT_SECURITY_POLICY.items())

    def __call__(self, request: HttpRequest) -> HttpResponse:
        """Answer, then set the header unless the view chose its own."""
        response = self.get_response(request)
        response.headers.setdefault("Content-Security-Policy", self.header)
        return response
