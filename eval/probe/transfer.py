"""Cheap scores of how well frozen features suit a target, without training or holding out anything.

LogME (You et al. 2021, arXiv:2102.11005), the H-score (Bao et al. 2019, arXiv:2212.10082) and linear kernel alignment
(CKA, Kornblith et al. 2019, arXiv:1905.00414), all from the sums that the linear probes stand on.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch

from .labels import Target
from .ridge import Columns, Sums

_ITERATIONS, _TOLERANCE = 100, 1e-5
_SHRINKAGE = 1e-3  # share of the mean variance that is added to a covariance before it is inverted


def transfer_scores(features: torch.Tensor, targets: Sequence[Target], usable: np.ndarray) -> list[dict[str, float]]:
    """Of each target {"logme", "cka"} and, where it is one of several classes, "h_score". features: standardised."""
    rows = torch.from_numpy(np.flatnonzero(usable))
    columns = Columns.of(targets)
    values = columns.values[rows]
    sums = Sums.over(features[rows], values)
    xx, xy = sums.centred()
    eigenvalues, vectors = torch.linalg.eigh(xx)
    kept = eigenvalues > 1e-9 * eigenvalues[-1].clamp_min(1e-300)
    sigma, inside = eigenvalues[kept].numpy(), ((vectors.T @ xy)[kept] / eigenvalues[kept].sqrt()[:, None]).numpy()
    whole = (values.double() - values.double().mean(0)).square().sum(0).numpy()
    found = []
    for number, target in enumerate(targets):
        of = np.flatnonzero(columns.owner == number)
        outside = np.maximum(whole[of] - np.square(inside[:, of]).sum(0), 0.0)
        evidence = [
            log_evidence(sigma, inside[:, column], float(rest), sums.count, len(xx))
            for column, rest in zip(of, outside, strict=True)
        ]
        scores = {"logme": float(np.mean(evidence)), "cka": _alignment(xx, xy[:, of], values[:, of])}
        if target.kind == "classes":
            scores["h_score"] = _h_score(xx, xy[:, of], columns.scale[of], target.values[usable], sums.count)
        found.append(scores)
    return found


def log_evidence(sigma: np.ndarray, inside: np.ndarray, outside: float, count: int, width: int) -> float:
    """LogME of one target: log evidence of a Bayesian linear model, per sample, at its best precisions.

    sigma: positive eigenvalues of X'X [R]. inside: the target along the left singular vectors of X [R]; outside: the
    squared length of the rest. The precisions of weights (alpha) and noise (beta) are found by MacKay's steps (1992).
    """
    alpha = beta = 1.0

    def fit() -> tuple[float, float]:
        shrink = beta * sigma / (alpha + beta * sigma)
        weights = float((np.square(shrink * inside) / sigma).sum())
        return weights, float(np.square((1 - shrink) * inside).sum()) + outside

    for _ in range(_ITERATIONS):
        weights, residual = fit()
        gamma = float((beta * sigma / (alpha + beta * sigma)).sum())
        before = alpha / beta
        alpha, beta = gamma / max(weights, 1e-12), (count - gamma) / max(residual, 1e-12)
        if abs(alpha / beta - before) <= _TOLERANCE * before:
            break
    weights, residual = fit()
    determinant = np.log(alpha + beta * sigma).sum() + (width - len(sigma)) * math.log(alpha)
    evidence = count * math.log(beta) + width * math.log(alpha) - count * math.log(2 * math.pi)
    return float((evidence - beta * residual - alpha * weights - determinant) / 2 / count)


def _alignment(xx: torch.Tensor, xy: torch.Tensor, values: torch.Tensor) -> float:
    """|X'Y|^2 / (|X'X| |Y'Y|): 0 unrelated, 1 the same geometry."""
    centred = values.double() - values.double().mean(0)
    scale = float(xx.norm() * (centred.T @ centred).norm())
    return float(xy.norm() ** 2) / scale if scale else 0.0


def _h_score(xx: torch.Tensor, xy: torch.Tensor, scale: torch.Tensor, one_hot: np.ndarray, count: int) -> float:
    """trace(cov(X)^-1 cov(class means)), at most the number of classes less one."""
    covariance = xx / count
    covariance += _SHRINKAGE * covariance.diagonal().mean() * torch.eye(len(xx), dtype=xx.dtype)
    sizes = torch.from_numpy(one_hot.sum(0)).double().clamp_min(1)
    means = xy * scale / sizes  # X'Y of centred indicators, by class: sums of centred features
    return float((sizes / count * (means * torch.linalg.solve(covariance, means)).sum(0)).sum())
