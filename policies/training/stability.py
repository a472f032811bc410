"""Training that keeps from running away: alarms learned from the run's own history, and the way back from them."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from statistics import median

from torch import Tensor, nn

from ..config import StabilityConfig
from .optimisation import Optimisation

WINDOW = 200  # values that say what is usual
LEAST_SPREAD = 0.1  # of logarithms: what changes by a tenth is usual even where it never did before
TO_SPREAD = 1.4826  # median absolute deviation to standard deviation, of a normal distribution


class DivergenceError(FloatingPointError):
    """A training ran away as often as it was brought back."""


class Alarm:
    """Tells when a positive number grows far beyond what it has been.

    On a logarithmic scale, usual is the median of the last values, and far is more than `tolerance` standard deviations
    above it, these estimated by the median absolute deviation, which a few runaway values do not move. It sounds where
    `patience` values in a row are far, and at once where one is not finite.

    Args:
        name: of the number, for people.
        tolerance: in standard deviations.
        patience: values in a row.
        warm: values before the first alarm.
        least: a value that is not far, whatever was usual.
    """

    def __init__(self, name: str, tolerance: float, patience: int, warm: int, least: float = 0.0) -> None:
        self.name, self.tolerance, self.patience, self.warm = name, tolerance, patience, warm
        self.least = least
        self.usual: deque[float] = deque(maxlen=WINDOW)
        self.far = 0

    def __call__(self, value: float) -> str | None:
        """Take in the next value; what is wrong with it, in words, or None."""
        if not math.isfinite(value):
            return f"{self.name} is {value}"
        level = math.log(max(value, 1e-12))
        threshold = self.threshold()
        self.far = self.far + 1 if level > threshold and value > self.least else 0
        if not self.far:
            self.usual.append(level)
        if self.far < self.patience:
            return None
        return f"{self.name} is {value:.3g}, for {self.far} steps more than {math.exp(threshold):.3g}"

    def threshold(self) -> float:
        """Logarithm above which a value is far; infinite while too little is known."""
        if len(self.usual) < self.warm:
            return math.inf
        middle = median(self.usual)
        spread = TO_SPREAD * median(abs(value - middle) for value in self.usual)
        return middle + self.tolerance * max(spread, LEAST_SPREAD)

    def falls(self, value: float) -> bool:
        """Whether a value is below what is usual."""
        return bool(self.usual) and math.log(max(value, 1e-12)) < median(self.usual)

    def forget(self) -> None:
        """Start again: after a step back the numbers have another history."""
        self.usual.clear()
        self.far = 0


@dataclass(frozen=True)
class Snapshot:
    """A point to return to: `step` steps are done."""

    step: int
    model: dict[str, Tensor]
    optimisation: dict[str, Tensor]


class Guard:
    """Watches loss and gradient of a stage, and brings it back when they run away.

    A snapshot is returned to only if another one could be taken after it without an alarm: the last one before a
    runaway may already be on its way.

    Args:
        config: options.
        module: whose weights are brought back.
        optimisation: of them; its learning rate is lowered.
        step: steps done so far.
        gradient_clip: gradients up to this norm are left as they are, and are no runaway.
    """

    def __init__(
        self,
        config: StabilityConfig,
        module: nn.Module,
        optimisation: Optimisation,
        step: int = 0,
        gradient_clip: float = 0.0,
    ) -> None:
        self.config, self.module, self.optimisation = config, module, optimisation
        options = (config.tolerance, config.patience, config.warm)
        self.alarms = {
            "loss": Alarm("loss", *options),
            "gradient norm": Alarm("gradient norm", *options, gradient_clip),
        }
        self.snapshots: deque[Snapshot] = deque(maxlen=2)
        self.keep(step)

    def look(self, loss: float, gradient_norm: float) -> str | None:
        """What is wrong with a step, in words, or None.

        Of a loss below zero only the gradient's growth tells. While the loss falls, gradients may grow: where a network
        begins to see what matters, they grow by a lot.
        """
        judged = loss > 0 or not math.isfinite(loss)
        learns = judged and math.isfinite(gradient_norm) and self.alarms["loss"].falls(loss)
        gradient = self.alarms["gradient norm"](gradient_norm)
        own = self.alarms["loss"](loss) if judged else None
        return own or (None if learns else gradient)

    def keep(self, step: int) -> None:
        """Remember this point, unless an alarm may be about to sound."""
        if any(alarm.far for alarm in self.alarms.values()):
            return
        model = {name: value.detach().clone() for name, value in self.module.state_dict().items()}
        optimisation = {name: value.detach().clone() for name, value in self.optimisation.state().items()}
        self.snapshots.append(Snapshot(step, model, optimisation))

    def due(self, step: int) -> bool:
        """Whether it is time to remember a point."""
        return step % self.config.snapshot_every == 0

    def recover(self, stage: str, step: int, reason: str) -> tuple[int, str]:
        """Return to the last stable point at half the learning rate: the step to go on from, and what to tell.

        Raises:
            DivergenceError: this has been done `recoveries` times.
        """
        optimisation = self.optimisation
        if optimisation.recoveries >= self.config.recoveries:
            raise DivergenceError(
                f"{stage} step {step}: {reason}, after {optimisation.recoveries} returns to a stable point, each at "
                f"half the learning rate; lower {stage}.lr ({optimisation.stage.lr:g}) or {stage}.warmup_steps is too "
                "short, or look at the data of these steps"
            )
        stable = self.snapshots[0]
        self.snapshots.clear()
        self.module.load_state_dict(stable.model)
        optimisation.forget()
        optimisation.restore(stable.optimisation, stable.step)
        optimisation.slow_down()
        for alarm in self.alarms.values():
            alarm.forget()
        self.keep(stable.step)
        told = (
            f"{stage} step {step}: {reason}; back to step {stable.step} at {optimisation.slowness:g} of the learning "
            f"rate (return {optimisation.recoveries} of {self.config.recoveries})"
        )
        return stable.step, told
