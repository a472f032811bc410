"""What the gate says: findings, the report that holds them, and the error that refuses a store."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from .tolerance import Tolerance


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong. episode and row are None where the finding is about all of them.

    severity: an "error" keeps a store from training, a "warning" does not, a "note" says what could not be judged.
    """

    severity: Literal["error", "warning", "note"]
    episode: int | None
    stream: str
    row: int | None
    check: str
    found: str
    expected: str
    action: str

    def __str__(self) -> str:
        where = "all episodes" if self.episode is None else f"episode {self.episode}"
        row = "" if self.row is None else f", row {self.row}"
        return (
            f"{self.severity} [{self.check}] {where}, stream {self.stream!r}{row}: "
            f"found {self.found}, expected {self.expected}; {self.action}"
        )


@dataclass(frozen=True)
class GateReport:
    """What the gate found in a store of `episodes` episodes, read with `tolerance`.

    synthetic: streams whose stamps were made from the declared rate, so that nothing can be said about their clock.
    lags: stream -> the delay read from its content, an entry for each episode (None where the signal cannot tell).
    """

    store: str
    episodes: int
    tolerance: Tolerance
    findings: list[Finding] = field(default_factory=list)
    synthetic: list[str] = field(default_factory=list)
    lags: dict[str, list[Mapping[str, Any] | None]] = field(default_factory=dict)

    @property
    def errors(self) -> list[Finding]:
        return [finding for finding in self.findings if finding.severity == "error"]

    @property
    def ok(self) -> bool:
        """True if training may use the store: there may be warnings, but there is no error."""
        return not self.errors

    def to_json(self) -> str:
        record = {
            "store": self.store,
            "episodes": self.episodes,
            "ok": self.ok,
            "tolerance": self.tolerance.to_dict(),
            "synthetic_clocks": self.synthetic,
            "findings": [asdict(finding) for finding in self.findings],
            "lags": self.lags,
        }
        return json.dumps(record, indent=2, ensure_ascii=False)


class GateError(ValueError):
    """A store is refused. The message lists the first errors; `report` has all findings."""

    SHOWN = 5

    def __init__(self, report: GateReport) -> None:
        self.report = report
        errors = report.errors
        lines = [f"{report.store}: the gate refuses this store, {len(errors)} errors:", *map(str, errors[: self.SHOWN])]
        if len(errors) > self.SHOWN:
            lines.append(f"... and {len(errors) - self.SHOWN} more")
        super().__init__("\n  ".join(lines))
