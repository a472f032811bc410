"""The training log: JSON lines of losses and of events, TensorBoard, and a progress display."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from ..interfaces import Losses

MONITORS, EVENTS, LOOKS = "monitors.jsonl", "events.jsonl", "evaluations.jsonl"
QUIET_SECONDS = 15.0  # without a terminal: a line this often


class TrainingLog:
    """Writes `training.jsonl` and, if wanted, TensorBoard events.

    Args:
        folder: of the run.
        tensorboard: whether to write events to folder/tensorboard.
        enabled: False writes and shows nothing (all processes but the first).
    """

    def __init__(self, folder: Path, tensorboard: bool, enabled: bool = True) -> None:
        self.path = folder / "training.jsonl"
        self.enabled = enabled
        self.writer: Any = None
        self._offset, self._writing = 0.0, False
        if tensorboard and enabled:
            from torch.utils.tensorboard.writer import SummaryWriter

            self.writer = SummaryWriter(str(folder / "tensorboard"))
        self._started = time.monotonic()

    def rewind(self, stages: list[str], index: int, step: int) -> None:
        """Drop the records after `step` steps of stage `stages[index]`: what a resumed run is about to write again."""
        if not self.enabled:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        reached = (index, step)

        def kept(path: Path) -> list[dict[str, Any]]:
            if reached <= (0, 0) or not path.exists():
                return []
            lines = path.read_text(encoding="utf-8").splitlines()
            records = [json.loads(line) for line in lines if line.endswith("}")]
            return [r for r in records if (stages.index(r["stage"]), r["step"]) <= reached]

        for path in (self.path, self.path.with_name(MONITORS), self.path.with_name(LOOKS)):
            records = kept(path)
            if records or path.exists() or path == self.path:
                path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
            if path == self.path and not self._writing:  # what is undone in mid-run has cost its time all the same
                self._offset = records[-1]["time_s"] if records else 0.0

    def forget_events(self) -> None:
        """A training begins: what happened to another in this folder is not its own."""
        if self.enabled:
            self.path.with_name(EVENTS).unlink(missing_ok=True)

    def record(self, stage: str, step: int, loss: dict[str, float], lr: float, samples_per_s: float) -> None:
        """Append one record; time_s counts from the start of training, interruptions left out."""
        if not self.enabled:
            return
        self._writing = True
        elapsed = self._offset + time.monotonic() - self._started
        line = {
            "stage": stage,
            "step": step,
            "time_s": round(elapsed, 3),
            "loss": {name: round(value, 6) for name, value in loss.items()},
            "lr": lr,
            "samples_per_s": round(samples_per_s, 1),
        }
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        if self.writer is not None:
            for name, value in loss.items():
                self.writer.add_scalar(f"{stage}/{name}", value, step)
            self.writer.add_scalar(f"{stage}/lr", lr, step)
            self.writer.add_scalar(f"{stage}/samples_per_s", samples_per_s, step)

    def watch(self, stage: str, step: int, values: Mapping[str, float]) -> None:
        """What monitors saw at a step: a line in `monitors.jsonl`, and events."""
        self._keep(MONITORS, "monitors", stage, step, values)

    def look(self, stage: str, step: int, values: Mapping[str, float]) -> None:
        """What an evaluation in mid-training found: a line in `evaluations.jsonl`, events, and one for the user."""
        self._keep(LOOKS, "evaluations", stage, step, values)
        self.say(f"{stage} {step}: " + ", ".join(f"{name} {value:.3g}" for name, value in values.items()))

    def _keep(self, file_name: str, key: str, stage: str, step: int, values: Mapping[str, float]) -> None:
        if not self.enabled or not values:
            return
        line = {"stage": stage, "step": step, key: {name: float(f"{value:.5g}") for name, value in values.items()}}
        with self.path.with_name(file_name).open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        if self.writer is not None:
            for name, value in values.items():
                self.writer.add_scalar(f"{stage}/{name}", value, step)

    def event(self, stage: str, step: int, text: str) -> None:
        """Something out of the ordinary: a line for the user, and one in `events.jsonl` that stays."""
        if not self.enabled:
            return
        with self.path.with_name(EVENTS).open("a", encoding="utf-8") as file:
            file.write(json.dumps({"stage": stage, "step": step, "event": text}, ensure_ascii=False) + "\n")
        self.say(text)

    def say(self, text: str) -> None:
        """One line for the user."""
        if self.enabled:
            Console(stderr=True).print(text, highlight=False, soft_wrap=True)

    def close(self) -> None:
        """Flush and close."""
        if self.writer is not None:
            self.writer.close()


class Meter:
    """Mean losses and samples a second since they were last read. size: samples of a step."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.restart()

    def restart(self) -> None:
        """Forget what has not been read."""
        self._sums: dict[str, Any] = {}
        self._steps, self._mark = 0, time.monotonic()

    def add(self, losses: Losses) -> None:
        """Take in a step."""
        self._steps += 1
        for part, value in {"total": losses.total.detach(), **losses.parts}.items():
            self._sums[part] = self._sums.get(part, 0) + value

    def read(self) -> tuple[dict[str, float], float]:
        """Mean of every part over the steps, and samples a second; then it starts again."""
        mean = {part: float(value) / self._steps for part, value in self._sums.items()}
        speed = self._steps * self.size / (time.monotonic() - self._mark)
        self.restart()
        return mean, speed


class StageProgress:
    """Progress of a stage with rate and time left: a bar on a terminal, a line now and then elsewhere."""

    def __init__(self, stage: str, start: int, steps: int, enabled: bool = True) -> None:
        self.stage, self.start, self.steps, self.enabled = stage, start, steps, enabled
        self.console = Console(stderr=True)
        self.bar: Progress | None = None
        self._began = self._said = time.monotonic()
        if enabled and self.console.is_terminal:
            self.bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[note]}"),
                TimeElapsedColumn(),
                TimeRemainingColumn(),
                console=self.console,
            )
            self.task = self.bar.add_task(stage, total=steps, completed=start, note="")

    def __enter__(self) -> StageProgress:
        if self.bar is not None:
            self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.bar is not None:
            self.bar.stop()

    def update(self, step: int, loss: dict[str, float], samples_per_s: float) -> None:
        """Show that `step` steps are done."""
        note = " ".join(f"{name} {value:.4f}" for name, value in loss.items()) + f"  {samples_per_s:.0f}/s"
        if self.bar is not None:
            self.bar.update(self.task, completed=step, note=note)
            return
        now = time.monotonic()
        if self.enabled and (now - self._said >= QUIET_SECONDS or step == self.steps):
            left = (now - self._began) / max(1, step - self.start) * (self.steps - step)
            self.console.print(
                f"{self.stage} {step}/{self.steps}  {note}  {left:.0f} s left", highlight=False, soft_wrap=True
            )
            self._said = now
