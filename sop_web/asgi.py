"""The ASGI application: `daphne sop_web.asgi:application`."""

import os
import warnings

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "sop_web.settings")
# WhiteNoise reads files in pieces from a thread; that this is not asynchronous is as it should be.
warnings.filterwarnings("ignore", message="StreamingHttpResponse must consume synchronous")

from sop_web.routing import application  # noqa: E402

__all__ = ["application"]
