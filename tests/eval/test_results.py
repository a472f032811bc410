"""The results table: what goes in comes out, whole, and its digest ignores nothing but time."""

from dataclasses import fields, replace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from deixis.eval.results import SCHEMA, EpisodeRecord, read_table, table_digest, write_table


def test_round_trip(tmp_path, records):
    path = write_table(records, tmp_path / "new" / "episodes.parquet")
    assert read_table(path) == records
    assert pq.read_schema(path).names == SCHEMA.names
    assert SCHEMA.names[-1] == "wall_s"
    assert [entry.name for entry in path.parent.iterdir()] == ["episodes.parquet"]


def test_every_field_has_a_column():
    assert set(SCHEMA.names) == {field.name for field in fields(EpisodeRecord)} | {"acted_on"}


def test_acted_on(make_record):
    assert make_record(first_grasped=None, first_moved="blue cube").acted_on == "blue cube"
    assert make_record(first_grasped="red cube", first_moved="blue cube").acted_on == "red cube"
    nothing = make_record(first_grasped=None, first_moved=None, first_touched="blue cube")
    assert nothing.acted_on is None
    assert not nothing.wrong_object
    assert make_record(first_grasped="blue cube").wrong_object


def test_digest_ignores_only_time(make_record):
    record = make_record()
    digest = table_digest([record])
    assert table_digest([replace(record, wall_s=99.0)]) == digest
    changes = {"predicates": {"held": False}, "versions": {"torch": "2.14"}, "first_touched": None}
    for field in fields(EpisodeRecord):
        if field.name == "wall_s":
            continue
        value = getattr(record, field.name)
        other = changes.get(field.name, value + "x" if isinstance(value, str) else not value)
        if type(value) is int:
            other = value + 1
        assert table_digest([replace(record, **{field.name: other})]) != digest, field.name
    assert table_digest([record, make_record(index=1)]) != table_digest([make_record(index=1), record])


def test_a_failed_write_leaves_the_old_table(tmp_path, records):
    path = write_table(records, tmp_path / "episodes.parquet")
    with pytest.raises(pa.ArrowInvalid):
        write_table([replace(records[0], steps="many")], path)  # pyright: ignore[reportArgumentType]
    assert read_table(path) == records
    assert [entry.name for entry in tmp_path.iterdir()] == ["episodes.parquet"]


def test_a_foreign_table_is_an_error(tmp_path):
    path = tmp_path / "episodes.parquet"
    pq.write_table(pa.table({"suite": ["tabletop-demo"]}), path)
    with pytest.raises(ValueError, match=r"column 'task': found nothing, wanted string"):
        read_table(path)
