import msgspec
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.protocol import episode
from fleet.protocol.episode import BadEpisode, EpisodeManifest, PartRef, Step
from tests.protocol import examples
from tests.protocol.examples import HEADER, MANIFEST, SHA, STEPS, VALUED_HEADER

PART = episode.encode_part(HEADER, STEPS)


def step(index: int, **fields) -> Step:
    values = {
        "step": index,
        "t_mono_ns": index,
        "t_wall_ns": index,
        "state": np.zeros(3, np.float32),
        "action": np.zeros(2, np.float32),
    }
    return Step(**(values | fields))


def test_a_part_says_the_same_from_bytes_and_from_a_file(tmp_path):
    path = tmp_path / "part.arrow"
    path.write_bytes(PART)
    from_bytes, from_file = episode.open_part(PART), episode.open_part(str(path))
    for name in from_bytes.table.column_names:
        np.testing.assert_array_equal(from_bytes.array(name), from_file.array(name))
    assert from_bytes.header == from_file.header == HEADER


def test_the_schema_names_every_column_the_module_documents():
    # Every column: those of a robot that computes values.
    names = set(episode.part_schema(VALUED_HEADER).names)
    documented = {
        line.split()[0].replace("<camera>", "front")
        for line in (episode.__doc__ or "").splitlines()
        if line.startswith("    ")
    }
    assert names == documented


@given(st.binary(max_size=400))
def test_rubbish_is_no_part(data):
    with pytest.raises(BadEpisode):
        episode.open_part(data)


@given(st.integers(0, len(PART) - 1))
def test_a_part_that_was_cut_is_no_part(length):
    with pytest.raises(BadEpisode):
        episode.open_part(PART[:length])


@pytest.mark.parametrize("column", ["action", "state"])
def test_values_that_are_not_finite_are_no_part(column):
    width = {"action": 2, "state": 3}[column]
    bad = episode.encode_part(HEADER, [step(0, **{column: np.full(width, np.nan, np.float32)})])
    with pytest.raises(BadEpisode, match="finite"):
        episode.open_part(bad)


def test_steps_that_do_not_follow_each_other_are_no_part():
    with pytest.raises(BadEpisode, match="consecutive"):
        episode.open_part(episode.encode_part(HEADER, [step(0), step(2)]))


def test_an_empty_and_an_oversized_part_are_refused():
    with pytest.raises(BadEpisode):
        episode.encode_part(HEADER, [])
    with pytest.raises(BadEpisode):
        episode.encode_part(HEADER, [step(i) for i in range(episode.MAX_PART_STEPS + 1)])


def test_columns_other_than_the_header_declares_are_refused():
    table = pa.ipc.open_file(PART).read_all()
    fewer = table.drop_columns(["reward"])
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, fewer.schema) as writer:
        writer.write_table(fewer)
    with pytest.raises(BadEpisode, match="columns"):
        episode.open_part(sink.getvalue().to_pybytes())


def test_an_arrow_file_of_something_else_is_refused():
    table = pa.table({"step": [0]})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    with pytest.raises(BadEpisode):
        episode.open_part(sink.getvalue().to_pybytes())


@given(st.binary(max_size=300) | st.text(max_size=300).map(str.encode))
def test_rubbish_is_no_manifest(data):
    with pytest.raises(BadEpisode):
        episode.decode_manifest(data)


def refs(*spans: tuple[int, int, int]) -> tuple[PartRef, ...]:
    return tuple(
        PartRef(index=index, sha256=SHA, size_bytes=1, first_step=first, steps=steps)
        for index, first, steps in spans
    )


@pytest.mark.parametrize(
    ("steps", "parts"),
    [
        (2, refs((1, 0, 2))),
        (4, refs((0, 0, 2), (1, 3, 1))),
        (4, refs((0, 0, 2), (0, 2, 2))),
        (5, refs((0, 0, 2), (1, 2, 2))),
        (1, ()),
    ],
)
def test_parts_that_do_not_add_up_are_no_manifest(steps, parts):
    value = msgspec.to_builtins(MANIFEST) | {"steps": steps, "parts": msgspec.to_builtins(parts)}
    with pytest.raises(BadEpisode):
        episode.decode_manifest(msgspec.json.encode(value))


@given(st.lists(st.integers(1, 50), min_size=1, max_size=6))
def test_parts_that_add_up_are_a_manifest(counts):
    firsts = np.cumsum([0, *counts])
    parts = refs(*((i, int(firsts[i]), count) for i, count in enumerate(counts)))
    manifest = EpisodeManifest(
        header=HEADER,
        ended_wall_ns=1,
        steps=sum(counts),
        outcome="timeout",
        judge="robot",
        parts=parts,
    )
    assert episode.decode_manifest(episode.encode_manifest(manifest)) == manifest


def test_a_header_needs_a_uuid():
    value = msgspec.to_builtins(MANIFEST)
    value["header"]["episode"] = "../../etc/passwd"
    with pytest.raises(BadEpisode):
        episode.decode_manifest(msgspec.json.encode(value))


def test_a_spec_whose_limits_do_not_fit_its_actions_is_refused():
    spec = msgspec.to_builtins(examples.SPEC)
    for wrong in ({"action_low": (0.0,)}, {"action_low": (1.0, 1.0)}):
        with pytest.raises(msgspec.ValidationError):
            msgspec.convert(spec | wrong, type(examples.SPEC))
