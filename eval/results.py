"""The results table: one row per episode, in parquet. Every reported number is computed from it.

`wall_s` is the only column that may differ between two runs of the same evaluation, so it stands last and
`table_digest` leaves it out: equal digests mean that every episode went the same way.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ..datasets.atomic import whole_file

NOT_REPRODUCIBLE = ("wall_s",)
SINCE = (
    "original_success",
    "lure",
    "choices",
    "subgoals",
    "subgoals_right",
)  # columns that older tables lack, and had nothing to say in

SCHEMA = pa.schema(
    [
        pa.field("suite", pa.string(), nullable=False),
        pa.field("task", pa.string(), nullable=False),
        pa.field("index", pa.int64(), nullable=False),
        pa.field("seed", pa.uint64(), nullable=False),
        pa.field("condition", pa.string(), nullable=False),
        pa.field("instruction", pa.string(), nullable=False),
        pa.field("success", pa.bool_(), nullable=False),
        pa.field("score", pa.float64(), nullable=False),
        pa.field("steps", pa.int64(), nullable=False),
        pa.field("target", pa.string(), nullable=False),
        pa.field("original_target", pa.string(), nullable=False),
        pa.field("original_success", pa.bool_()),
        pa.field("lure", pa.string()),
        pa.field("choices", pa.int64()),
        pa.field("first_touched", pa.string()),
        pa.field("first_grasped", pa.string()),
        pa.field("first_moved", pa.string()),
        pa.field("acted_on", pa.string()),
        pa.field("subgoals", pa.int64()),
        pa.field("subgoals_right", pa.int64()),
        pa.field("predicates", pa.string(), nullable=False),
        pa.field("policy_hash", pa.string(), nullable=False),
        pa.field("versions", pa.string(), nullable=False),
        pa.field("wall_s", pa.float64(), nullable=False),
    ]
)


@dataclass(frozen=True)
class EpisodeRecord:
    """What happened in one episode.

    index: number of the episode within (suite, task); with them it fixes the scene and the policy's noise.
    condition: see `envs.conditions.CONDITIONS`. instruction: where it changes on the way, both, with an arrow between.
    success: the environment's own predicate for the goal. score: its mark in [0, 1], 1 or 0 where it gives none.
    steps: control steps until success or the limit.
    target: object that the instruction is about, "" where the environment names none. original_target: the one it is
    about under "correct" (differs in "swap"); original_success: whether the goal of "correct" was reached. lure: the
    object that a policy acts on which does not hear all of the instruction, None where there is none. choices: how many
    objects of the scene could be the target.
    first_touched, first_grasped, first_moved: first object that the robot did this to, or None.
    predicates: the environment's success predicates at the end (JSON values).
    policy_hash: see `eval.provenance.policy_hash`. versions: package name to version.
    wall_s: seconds the episode took.
    subgoals: how many sub-goals the policy said; subgoals_right: how many of them word for word what the expert was
    about at that instant. None where the policy says none, or nobody knows.
    """

    suite: str
    task: str
    index: int
    seed: int
    condition: str
    instruction: str
    success: bool
    score: float
    steps: int
    target: str
    original_target: str
    first_touched: str | None
    first_grasped: str | None
    first_moved: str | None
    predicates: dict[str, Any]
    policy_hash: str
    versions: dict[str, str]
    wall_s: float
    original_success: bool | None = None
    lure: str | None = None
    choices: int | None = None
    subgoals: int | None = None
    subgoals_right: int | None = None

    @property
    def acted_on(self) -> str | None:
        """The object the robot chose: the first it grasped, else the first it moved, else None."""
        return self.first_grasped or self.first_moved

    @property
    def wrong_object(self) -> bool:
        """Whether the robot chose an object other than the goal's."""
        return self.acted_on is not None and self.acted_on != self.target

    def to_row(self) -> dict[str, Any]:
        """The record as a row of the table: plain values, JSON as text with sorted keys."""
        row = asdict(self) | {"acted_on": self.acted_on}
        for name in ("predicates", "versions"):
            row[name] = json.dumps(row[name], sort_keys=True, ensure_ascii=False)
        return {name: row[name] for name in SCHEMA.names}

    @classmethod
    def from_row(cls, row: dict[str, Any]) -> EpisodeRecord:
        """The inverse of `to_row`."""
        values = {field.name: row[field.name] for field in fields(cls)}
        for name in ("predicates", "versions"):
            values[name] = json.loads(values[name])
        return cls(**values)


def write_table(records: Sequence[EpisodeRecord], path: Path | str) -> Path:
    """Writes the records in their order. The file appears whole or not at all."""
    path = Path(path)
    table = pa.Table.from_pylist([record.to_row() for record in records], schema=SCHEMA)
    with whole_file(path) as beside:
        pq.write_table(table, beside)
    return path


def read_table(path: Path | str) -> list[EpisodeRecord]:
    """Reads what `write_table` wrote. Raises ValueError when a column is missing or of another type."""
    table = pq.read_table(path)
    for field in SCHEMA:
        if field.name in SINCE and field.name not in table.schema.names:
            table = table.append_column(field, pa.nulls(len(table), field.type))
        found = table.schema.field(field.name).type if field.name in table.schema.names else None
        if found != field.type:
            raise ValueError(
                f"{path}: column {field.name!r}: found {found or 'nothing'}, wanted {field.type}; "
                "this is not a results table of this version: run the evaluation again"
            )
    return [EpisodeRecord.from_row(row) for row in table.to_pylist()]


def table_digest(records: Sequence[EpisodeRecord]) -> str:
    """SHA-256 over all columns but `wall_s`, in the records' order."""
    digest = hashlib.sha256()
    for record in records:
        row = {name: value for name, value in record.to_row().items() if name not in NOT_REPRODUCIBLE}
        digest.update(json.dumps(row, sort_keys=True, ensure_ascii=False).encode())
        digest.update(b"\n")
    return digest.hexdigest()
