"""JSON bodies of pages: small, typed, refused in words."""

from typing import TypeVar

import msgspec
from django.core.exceptions import RequestDataTooBig
from django.http import HttpRequest

from learning.exceptions import TooLarge, Unprocessable

MAX_BODY_BYTES = 4096
Body = TypeVar("Body", bound=msgspec.Struct)


def body_of(request: HttpRequest, kind: type[Body], *, what: str = "a label") -> Body:
    """Return the body of a request, which is to be `what`. Raises TooLarge and Unprocessable."""
    try:
        data = request.body
    except RequestDataTooBig:
        data = b" " * (MAX_BODY_BYTES + 1)
    if len(data) > MAX_BODY_BYTES:
        raise TooLarge(f"{what} of over {MAX_BODY_BYTES} bytes is none")
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Unprocessable(f"not {what}: {error}") from None
