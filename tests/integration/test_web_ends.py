import contextlib
import signal
import threading
import urllib.error
import urllib.request

from tests.live import live_server, seed


def test_a_web_process_ends_though_requests_are_under_way(tmp_path):
    seed(tmp_path, robots=0, operators=0)
    asked = threading.Semaphore(0)
    ended = threading.Event()

    with live_server(tmp_path) as server:

        def ask() -> None:
            while not ended.is_set():
                with contextlib.suppress(urllib.error.URLError, OSError):
                    urllib.request.urlopen(f"{server.url}/login/", timeout=5).read()
                asked.release()

        threads = [threading.Thread(target=ask, daemon=True) for _ in range(8)]
        for thread in threads:
            thread.start()
        for _ in range(40):
            asked.acquire()
        try:
            server.process.send_signal(signal.SIGTERM)
            # A process that waits for a thread would wait for ever.
            assert server.process.wait(60) == 0
        finally:
            ended.set()
