import pytest

from fleet.protocol.messages import CloseCode


@pytest.mark.parametrize("code", CloseCode)
def test_every_close_code_is_one_that_an_application_may_send(code):
    # RFC 6455, 7.4; Daphne raises on any other, and the socket then stays open.
    assert code == 1000 or 3000 <= code <= 4999
