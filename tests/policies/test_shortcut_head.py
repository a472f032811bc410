"""The shortcut head: exact on Gaussians at any step length, the flow beyond its finest, and good in one step."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from scipy.stats import ks_2samp
from torch import Tensor

from deixis.policies.config import HeadConfig, ShortcutConfig
from deixis.policies.heads import build_head
from deixis.policies.heads.flow import FlowHead
from deixis.policies.heads.noise import hold
from deixis.policies.heads.shortcut import ShortcutHead
from deixis.policies.interfaces import TokenGroup

from .head_inputs import TOKENS, WIDTH, context, generators

HORIZON, DIM = 4, 3
TINY = HeadConfig(
    kind="shortcut", context_width=16, denoiser_width=16, denoiser_blocks=1, unet_channels=(8, 16),
    prediction_type="v_prediction",
)  # fmt: skip
DENOISERS = ("mlp", "unet", "transformer")
PREDICTIONS = ("sample", "v_prediction")


def make(**changes: object) -> ShortcutHead:
    torch.manual_seed(0)
    return ShortcutHead(replace(TINY, **changes), HORIZON, DIM, TOKENS, WIDTH)  # pyright: ignore


def chunks(batch: int = 3) -> Tensor:
    return torch.rand(batch, HORIZON, DIM, generator=torch.Generator().manual_seed(2)) * 2 - 1


def nothing_padded(batch: int = 3) -> Tensor:
    return torch.zeros(batch, HORIZON, dtype=torch.bool)


# The contract of every head


@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("denoiser", DENOISERS)
def test_gradients_reach_all_and_samples_do_not_depend_on_the_batch(denoiser: str, prediction: str) -> None:
    head = make(denoiser=denoiser, prediction_type=prediction, noise_samples=8)
    losses = head.loss(context(), chunks(), nothing_padded())
    losses.total.backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() and p.grad.any() for p in head.parameters())
    assert set(losses.parts) == {"flow", "consistency"}
    assert losses.total.item() == pytest.approx(sum(part.item() for part in losses.parts.values()))
    head.eval()
    whole = context()
    for steps in (1, 2, 4, 8, 16, 20):
        head.steps = steps
        with torch.inference_mode():
            together = head.sample(whole, generators(5, 6, 7))
            alone = head.sample(TokenGroup(whole.tokens[1:2], whole.mask[1:2]), generators(6))
        assert together.shape == (3, HORIZON, DIM) and together.abs().max() <= 1
        torch.testing.assert_close(together[1:2], alone, atol=1e-4, rtol=0)


@pytest.mark.parametrize("kind", ["flow", "shortcut"])
def test_padded_actions_are_not_even_read(kind: str) -> None:
    torch.manual_seed(0)
    head = build_head(replace(TINY, kind=kind), HORIZON, DIM, TOKENS, WIDTH)
    is_pad = nothing_padded()
    is_pad[:, 2:], is_pad[0, 0], is_pad[2] = True, True, True
    losses = []
    for actions in (chunks(), chunks().masked_fill(is_pad[..., None], float("nan"))):
        torch.manual_seed(3)
        losses.append(head.loss(context(), actions, is_pad).total.item())
    assert losses[0] == losses[1] > 0
    assert head.loss(context(), chunks(), torch.ones_like(is_pad)).total.item() == 0


def test_padding_holds_the_last_action_before_it() -> None:
    actions = torch.arange(1.0, 5.0).view(1, 4, 1).expand(3, -1, -1)
    is_pad = torch.tensor([[False, False, True, True], [True, False, True, False], [True, True, True, True]])
    assert hold(actions, is_pad)[..., 0].tolist() == [[1, 2, 2, 2], [0, 2, 2, 4], [0, 0, 0, 0]]


def test_works_under_bf16_autocast() -> None:
    head = make()
    with torch.autocast("cpu", torch.bfloat16):
        losses = head.loss(context(), chunks(), nothing_padded())
    losses.total.backward()
    assert losses.total.dtype == torch.float32
    assert all(p.grad is not None and p.grad.isfinite().all() for p in head.parameters())


def test_options_that_do_not_fit_are_refused() -> None:
    for finest, share in ((12, 0.5), (0, 0.5), (16, 0.0), (16, 1.5)):
        with pytest.raises(ValueError, match=f"found finest {finest}, share {share}, wanted a power of two"):
            make(shortcut=ShortcutConfig(finest=finest, share=share))
    with pytest.raises(ValueError, match="inference_steps: found 10, wanted a power of two"):
        make(inference_steps=10)
    with pytest.raises(ValueError, match="wanted 'sample' or 'v_prediction' for the shortcut head"):
        make(prediction_type="epsilon")


# Against what is known in closed form

MEAN, DEVIATION = 0.2, 0.15


class ExactSteps(torch.nn.Module):
    """The mean velocity over any step for actions of N(MEAN, DEVIATION^2): every start stays at its quantile."""

    def __init__(self, head: ShortcutHead, knows_length: bool) -> None:
        super().__init__()
        self.predicts_sample, self.finest, self.knows_length = head.predicts_sample, head.finest, knows_length

    def modulation(self, condition: Tensor) -> Tensor:
        return condition

    def forward(self, noisy: Tensor, timestep: Tensor, modulation: Tensor, level: Tensor) -> Tensor:
        time = timestep[..., None, None] / TINY.train_timesteps
        length = (2.0 ** (level - 1) / self.finest)[..., None, None].to(noisy.dtype)
        quantile = (noisy - time * MEAN) / self.spread(time)
        after = (time + length) * MEAN + self.spread(time + length) * quantile
        slope = (time * DEVIATION**2 - (1 - time)) / self.spread(time)
        is_step = (level > 0)[..., None, None] & self.knows_length
        velocity = torch.where(is_step, (after - noisy) / length, MEAN + slope * quantile)
        return noisy + (1 - time) * velocity if self.predicts_sample else velocity

    @staticmethod
    def spread(time: Tensor) -> Tensor:
        return (time**2 * DEVIATION**2 + (1 - time) ** 2).sqrt()


def known(prediction: str, finest: int = 16, steps: int = 1, knows_length: bool = True) -> ShortcutHead:
    config = replace(
        TINY, prediction_type=prediction, shortcut=ShortcutConfig(finest=finest), inference_steps=steps,
        clip_sample=False, noise_samples=50,
    )  # fmt: skip
    head = ShortcutHead(config, 2, 2, 1, 3)
    head.denoiser = ExactSteps(head, knows_length)  # pyright: ignore
    return head


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_two_exact_steps_of_a_gaussian_are_one_of_twice_the_length(prediction: str) -> None:
    head, modulation = known(prediction), torch.zeros(100, 1)
    for number in range(2, head.longest + 1):
        level = torch.full((50, 100), number)
        length = head.length(level).double()
        time = (torch.rand(50, 100) / length).floor() * length
        begin = time[..., None, None] * MEAN + torch.randn(50, 100, 2, 2, dtype=torch.float64)
        one = head.velocity(begin, time, modulation, level)
        torch.testing.assert_close(head.two_steps(begin, time, modulation, level), one, atol=1e-9, rtol=0)


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_exact_steps_have_no_loss_but_what_the_flow_leaves_in_the_shortest(prediction: str) -> None:
    """The midpoint rule's error is cubic in the step, so the mean velocity's is quadratic and the loss of order 4."""
    modulation, is_pad = torch.zeros(100, 1), torch.zeros(100, 2, dtype=torch.bool)
    actions = MEAN + DEVIATION * torch.randn(100, 2, 2)

    def loss(finest: int, knows_length: bool = True) -> float:
        torch.manual_seed(1)
        return known(prediction, finest, knows_length=knows_length).consistency_loss(modulation, actions, is_pad).item()

    coarse, fine = loss(16), loss(64)
    assert fine < coarse / 50
    assert loss(64, knows_length=False) > 20 * fine


@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("steps", [1, 2, 4, 8, 16])
def test_exact_steps_take_noise_to_a_gaussian_however_many(prediction: str, steps: int) -> None:
    head = known(prediction, steps=steps)
    seeds = range(200)
    starts = torch.stack([torch.randn(2, 2, generator=torch.Generator().manual_seed(seed)) for seed in seeds])
    seen = TokenGroup(torch.zeros(200, 1, 3), torch.ones(200, 1, dtype=torch.bool))
    with torch.inference_mode():
        samples = head.sample(seen, generators(*seeds))
    torch.testing.assert_close(samples, (MEAN + DEVIATION * starts).clamp(-1, 1), atol=1e-5, rtol=0)


@pytest.mark.parametrize("denoiser", DENOISERS)
def test_more_steps_than_the_finest_are_those_of_the_flow(denoiser: str) -> None:
    head = make(denoiser=denoiser, inference_steps=32).eval()
    flow = FlowHead(replace(TINY, kind="flow", denoiser=denoiser, inference_steps=32), HORIZON, DIM, TOKENS, WIDTH)
    with torch.inference_mode():
        told = head.denoiser.time.level
        assert told is not None
        told.weight[0] = 0
        flow.load_state_dict({name: value for name, value in head.state_dict().items() if "time.level" not in name})
        chunk = head.sample(context(), generators(1, 2, 3))
        torch.testing.assert_close(chunk, flow.eval().sample(context(), generators(1, 2, 3)))
        told.weight[0] = 1.0
        assert not torch.allclose(chunk, head.sample(context(), generators(1, 2, 3)))


# What it learns


def bimodal(number: int) -> tuple[Tensor, Tensor]:
    """Two actions, either as likely, that move with x."""
    x = torch.rand(number, 1) * 0.6 - 0.3
    return x, x + torch.randint(0, 2, (number, 1)) - 0.5 + 0.1 * torch.randn(number, 1)


def jump(number: int) -> tuple[Tensor, Tensor]:
    """The action jumps where x changes sign."""
    x = torch.rand(number, 1) * 2 - 1
    return x, 0.6 * x.sign() + 0.1 * torch.randn(number, 1)


def ring(number: int) -> tuple[Tensor, Tensor]:
    """Two actions on a circle, whatever x."""
    x, angle = torch.rand(number, 1) * 2 - 1, torch.rand(number, 1) * 2 * math.pi
    return x, (0.7 + 0.05 * torch.randn(number, 1)) * torch.cat([angle.cos(), angle.sin()], dim=1)


PROBLEMS: dict[str, Callable[[int], tuple[Tensor, Tensor]]] = {"bimodal": bimodal, "jump": jump, "ring": ring}
CENTRES: dict[str, Callable[[Tensor], Tensor]] = {
    "bimodal": lambda x: x,
    "jump": lambda x: 0.6 * x.sign(),
    "ring": torch.zeros_like,
}


def as_context(x: Tensor) -> TokenGroup:
    return TokenGroup(torch.cat([x, torch.ones_like(x)], dim=1)[:, None], torch.ones(len(x), 1, dtype=torch.bool))


def learned(kind: str, problem: str, steps: int) -> FlowHead:
    torch.manual_seed(0)
    config = replace(
        TINY, kind=kind, context_width=32, denoiser_width=64, denoiser_blocks=2, noise_samples=1,
        shortcut=ShortcutConfig(share=1.0),
    )  # fmt: skip
    head = build_head(config, 1, 2 if problem == "ring" else 1, 1, 2)
    optimizer = torch.optim.AdamW(head.parameters(), lr=3e-3, fused=True)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        x, y = PROBLEMS[problem](256)
        head.loss(as_context(x), y[:, None], torch.zeros(256, 1, dtype=torch.bool)).total.backward()
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
    assert isinstance(head, FlowHead)
    return head.eval()


def distances(head: FlowHead, problem: str, steps: int, count: int = 400) -> tuple[float, float]:
    """Energy distance of draws to truth, in x and action together; p of a two-sample test of each action around x."""
    torch.manual_seed(1)
    (x, y), (again, _) = PROBLEMS[problem](count), PROBLEMS[problem](count)
    head.steps = steps
    with torch.inference_mode():
        drawn = head.sample(as_context(again))[:, 0]
    one, other = torch.cat([x, y], dim=1), torch.cat([again, drawn], dim=1)
    within = sum(torch.cdist(part, part).sum() / (count * (count - 1)) for part in (one, other))
    energy = 2 * torch.cdist(one, other).mean() - within
    truth, found = (action - CENTRES[problem](seen) for action, seen in ((y, x), (drawn, again)))
    chances = [ks_2samp(truth[:, i].numpy(), found[:, i].numpy()).pvalue for i in range(truth.shape[1])]  # pyright: ignore
    return float(energy), float(min(chances))


@pytest.mark.parametrize(("problem", "training"), [("bimodal", 800), ("jump", 400), ("ring", 300)])
def test_draws_pass_the_two_sample_test_in_any_number_of_steps(problem: str, training: int) -> None:
    """Where actions disagree, one step of a plain flow is their mean: it fails, 20 times as far from the truth."""
    shortcut = learned("shortcut", problem, training)
    found = {steps: distances(shortcut, problem, steps) for steps in (1, 2, 4, 8)}
    assert all(chance > 0.001 for _, chance in found.values()), found
    if problem != "jump":
        energy, chance = distances(learned("flow", problem, 150), problem, 1)
        assert chance < 1e-6
        assert found[1][0] < energy / 20
