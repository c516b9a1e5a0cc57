"""The ASGI application: `daphne sop_web.asgi:application`."""

import os
import sys
import warnings

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "sop_web.settings")
# WhiteNoise reads files in pieces from a thread; that this is not asynchronous is as it should be.
warnings.filterwarnings("ignore", message="StreamingHttpResponse must consume synchronous")

from sop_web.ending import end_with_the_loop  # noqa: E402
from sop_web.routing import application  # noqa: E402

# The process is a server's, whose main thread is the event loop; a test may import this as well.
if "daphne.cli" in sys.modules:
    end_with_the_loop()

__all__ = ["application"]
