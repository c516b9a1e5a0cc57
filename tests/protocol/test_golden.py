from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pytest

from fleet.protocol import codec, episode
from fleet.protocol import messages as m
from fleet.protocol.spec import RobotSpec
from tests.protocol import examples

FILES = sorted((Path(__file__).parent / "golden").rglob("*.*"))
MESSAGE_FILES = [f for f in FILES if f.suffix in (".msgpack", ".json") and f.stem[0].isupper()]
DECODERS = {
    ".msgpack": (codec.decode_from_robot, codec.decode_to_robot),
    ".json": (codec.decode_from_browser, codec.decode_from_viewer, codec.decode_to_browser),
}
RAW = {".msgpack": msgspec.msgpack.decode, ".json": msgspec.json.decode}


def label(path: Path) -> str:
    return f"{path.parent.name}/{path.name}"


def decode(path: Path) -> m.Message:
    """Decode with the decoder of the direction that knows the message."""
    data: Any = path.read_bytes()
    if path.suffix == ".json":
        data = data.decode()
    for decoder in DECODERS[path.suffix]:
        try:
            return decoder(data)
        except codec.BadMessage as error:
            last = error
    raise last


def assert_holds(value: Any, raw: Any) -> None:
    """Assert that `value` says all that `raw` says; fields added since then have defaults."""
    if isinstance(raw, dict):
        assert isinstance(value, dict)
        for name, inner in raw.items():
            assert_holds(value[name], inner)
    elif isinstance(raw, list | tuple):
        assert len(value) == len(raw)
        for one, other in zip(value, raw, strict=True):
            assert_holds(one, other)
    else:
        assert value == raw


@pytest.mark.parametrize("path", MESSAGE_FILES, ids=label)
def test_a_message_once_written_decodes_for_ever(path):
    raw = RAW[path.suffix](path.read_bytes())
    message = decode(path)
    assert type(message).__name__ == path.stem == raw["type"]
    assert_holds(msgspec.to_builtins(message, builtin_types=(bytes,)), raw)


def test_every_kind_of_message_has_an_example_and_a_golden_file():
    assert {type(message) for message in examples.MESSAGES} == examples.ALL_KINDS
    assert {path.stem for path in MESSAGE_FILES} == {kind.__name__ for kind in examples.ALL_KINDS}


def test_examples_use_no_default_where_another_value_is_possible():
    # A field left at its default would not show that it was renamed.
    for message in examples.MESSAGES:
        fields = msgspec.structs.fields(message)
        filled = [f for f in fields if getattr(message, f.name) != f.default]
        assert len(filled) >= min(1, len(fields)), type(message).__name__


# Arrow's bytes may change between its releases; the part's content is tested below.
@pytest.mark.parametrize(
    "name", sorted(n for n in examples.golden_files() if not n.endswith(".arrow"))
)
def test_what_is_written_today_says_what_the_newest_golden_file_says(name):
    golden, today = (examples.GOLDEN / name).read_bytes(), examples.golden_files()[name]
    if name == "viewer.frame":
        assert codec.unpack_frame(golden) == codec.unpack_frame(today)
        return
    raw = RAW["." + name.rsplit(".", 1)[1]]
    assert_holds(raw(today), raw(golden))


def test_an_episode_part_once_written_opens_for_ever():
    part = episode.open_part(str(examples.GOLDEN / "part.arrow"))
    assert part.header == examples.HEADER
    assert (part.index, part.first_step, part.table.num_rows) == (0, 0, 2)
    first, second = examples.STEPS
    np.testing.assert_array_equal(part.array("state"), [first.state, second.state])
    np.testing.assert_array_equal(part.array("action"), [first.action, second.action])
    np.testing.assert_array_equal(part.array("policy_action")[0], [0.5, -1.0])
    assert np.isnan(part.array("policy_action")[1]).all()
    assert np.isnan(part.array("operator_action")[0]).all()
    np.testing.assert_array_equal(part.array("operator_action")[1], [2.0, 0.0])
    assert part.image("front", 0) == first.images["front"]
    assert part.image("front", 1) is None
    expected = {
        "step": [0, 1],
        "t_mono_ns": [first.t_mono_ns, second.t_mono_ns],
        "t_wall_ns": [first.t_wall_ns, second.t_wall_ns],
        "control_mode": [0, 1],
        "controller": [0, 1],
        "policy_number": [12, -1],
        "lease_epoch": [0, 4],
        "before_takeover": [True, False],
        "chunk_index": [3, -1],
    }
    for name, values in expected.items():
        np.testing.assert_array_equal(part.array(name), values)
    np.testing.assert_array_equal(part.array("doubt"), [0.5, np.nan])
    np.testing.assert_array_equal(part.array("reward"), [0.75, np.nan])
    np.testing.assert_array_equal(part.array("command_age_ms"), [np.nan, 12.5])


def test_an_episode_part_with_values_opens_for_ever_and_declares_its_column():
    path = examples.GOLDEN / "valued_part.arrow"
    part = episode.open_part(str(path))
    assert part.header == examples.VALUED_HEADER
    np.testing.assert_array_equal(part.array("value"), [-0.25, np.nan])
    # A column that the header does not announce, or one that is missing, is another format.
    for header, steps in [
        (examples.HEADER, examples.VALUED_STEPS),
        (examples.VALUED_HEADER, examples.STEPS),
    ]:
        table = episode.open_part(episode.encode_part(header, steps)).table
        assert ("value" in table.column_names) == bool(header.value_sha256)
    lying = part.table.drop_columns(["value"])
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, lying.schema) as writer:
        writer.write_table(lying)
    with pytest.raises(episode.BadEpisode, match="columns differ"):
        episode.open_part(sink.getvalue().to_pybytes())


@pytest.mark.parametrize(
    ("name", "manifest"),
    [("manifest.json", examples.MANIFEST), ("valued_manifest.json", examples.VALUED_MANIFEST)],
)
def test_a_manifest_once_written_decodes_for_ever(name: str, manifest: episode.EpisodeManifest):
    data = (examples.GOLDEN / name).read_bytes()
    assert episode.decode_manifest(data) == manifest


def test_a_frame_for_a_viewer_once_written_unpacks_for_ever():
    header, jpeg = codec.unpack_frame((examples.GOLDEN / "viewer.frame").read_bytes())
    assert header == examples.VIEWER_HEADER
    assert jpeg == b"\xff\xd8jpeg\xff\xd9"


@pytest.mark.parametrize(
    ("name", "spec"), [("spec.json", examples.SPEC), ("seeing_spec.json", examples.SEEING_SPEC)]
)
def test_a_spec_once_written_decodes_for_ever(name: str, spec: RobotSpec):
    data = (examples.GOLDEN / name).read_bytes()
    assert msgspec.json.decode(data, type=RobotSpec) == spec


def test_a_spec_whose_hand_is_nowhere_is_refused():
    raw = msgspec.to_builtins(examples.SEEING_SPEC)
    raw["hand"]["position"] = ["x", "y", "elbow"]
    with pytest.raises(msgspec.ValidationError, match="hand names a component"):
        msgspec.convert(raw, RobotSpec)
