import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.protocol import browser as b
from fleet.protocol import codec
from fleet.protocol import messages as m
from fleet.protocol.codec import BadMessage
from tests.protocol import examples

BINARY = (codec.decode_from_robot, codec.decode_to_robot)
TEXT = (codec.decode_from_browser, codec.decode_from_viewer, codec.decode_to_browser)
ENCODED = [codec.encode_link(x) for x in examples.MESSAGES if type(x) in examples.BINARY_KINDS]
WRITTEN = [codec.encode_text(x) for x in examples.MESSAGES if type(x) in examples.TEXT_KINDS]
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
)


def decodes_or_refuses(decoder, data) -> bool:
    try:
        assert isinstance(decoder(data), m.Message)
    except BadMessage:
        return False
    return True


@given(st.binary(max_size=300))
def test_rubbish_bytes_are_refused_and_nothing_else_happens(data):
    for decoder in BINARY:
        decodes_or_refuses(decoder, data)


@given(st.text(max_size=300))
def test_rubbish_text_is_refused_and_nothing_else_happens(text):
    for decoder in TEXT:
        decodes_or_refuses(decoder, text)


@given(st.sampled_from(ENCODED), st.data())
def test_a_message_with_some_bytes_changed_or_cut_is_refused_or_still_a_message(data, draw):
    damaged = bytearray(data)
    for _ in range(draw.draw(st.integers(1, 4))):
        damaged[draw.draw(st.integers(0, len(damaged) - 1))] = draw.draw(st.integers(0, 255))
    cut = draw.draw(st.integers(0, len(damaged)))
    for decoder in BINARY:
        decodes_or_refuses(decoder, bytes(damaged))
        decodes_or_refuses(decoder, bytes(damaged[:cut]))


@given(st.sampled_from([type(x).__name__ for x in examples.MESSAGES]), json_values)
def test_any_content_under_a_known_type_is_refused_or_a_message(name, content):
    value = {"type": name} | (content if isinstance(content, dict) else {"robot": content})
    try:
        text = msgspec.json.encode(value).decode()
        data = msgspec.msgpack.encode(value)
    except (ValueError, OverflowError):
        return
    for decoder in TEXT:
        decodes_or_refuses(decoder, text)
    for decoder in BINARY:
        decodes_or_refuses(decoder, data)


@pytest.mark.parametrize("nested", [b"\x91" * 100_000 + b"\xc0", b"\x81\xa4type" * 50_000])
def test_deep_nesting_is_refused(nested):
    for decoder in BINARY:
        assert not decodes_or_refuses(decoder, nested)


def test_deeply_nested_text_is_refused():
    for decoder in TEXT:
        assert not decodes_or_refuses(decoder, '{"type":"Watch","x":' + "[" * 7000)


def test_messages_over_the_limit_are_refused_unread():
    with pytest.raises(BadMessage, match="limit"):
        codec.decode_to_robot(b"\x00" * (m.MAX_LINK_MESSAGE_BYTES + 1))
    with pytest.raises(BadMessage, match="limit"):
        codec.decode_from_browser(" " * (b.MAX_BROWSER_MESSAGE_BYTES + 1))


def test_weights_over_the_inline_limit_are_refused():
    big = m.PolicyAnnouncement(
        policy=examples.REF, weights=b"\x00" * (m.MAX_INLINE_WEIGHTS_BYTES + 1)
    )
    with pytest.raises(BadMessage):
        codec.decode_to_robot(codec.encode_link(big))


def test_unknown_fields_are_ignored():
    data = msgspec.msgpack.encode({"type": "Hold", "seq": 3, "reason": "r", "colour": "red"})
    assert codec.decode_to_robot(data) == m.Hold(seq=3, reason="r")


def test_fields_an_older_peer_does_not_send_have_their_defaults():
    assert codec.decode_to_robot(msgspec.msgpack.encode({"type": "Hold"})) == m.Hold()


def test_a_message_for_the_other_direction_is_refused():
    assert not decodes_or_refuses(
        codec.decode_from_robot, codec.encode_link(m.Stop(stop_id="s", by="a"))
    )
    assert not decodes_or_refuses(
        codec.decode_from_browser, codec.encode_text(b.TakeoverAnswer(robot="r", lease=None))
    )


@pytest.mark.parametrize(
    "action", [(), (0.0,) * 65, (float("inf"),), (float("-inf"),), (1e7,)], ids=str
)
def test_actions_of_no_robot_are_refused(action):
    data = codec.encode_link(m.Teleop(epoch=1, seq=1, action=action, t_wall_ns=0))
    assert not decodes_or_refuses(codec.decode_to_robot, data)


@pytest.mark.parametrize("name", ["", "a b", "../x", "-x", "x" * 65, "ä"])
def test_names_that_are_no_names_are_refused(name):
    data = codec.encode_text(b.HoldRobot(robot=name))
    assert not decodes_or_refuses(codec.decode_from_browser, data)


@given(st.binary(max_size=200))
def test_a_viewers_frame_of_rubbish_is_refused(data):
    # Two bytes of length, then a header that no random bytes are.
    with pytest.raises(BadMessage):
        codec.unpack_frame(data)


def test_a_viewers_frame_keeps_its_image_whatever_its_bytes():
    jpeg = bytes(range(256)) * 10
    packed = codec.pack_frame(examples.VIEWER_HEADER, jpeg)
    assert codec.unpack_frame(packed) == (examples.VIEWER_HEADER, jpeg)
