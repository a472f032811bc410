"""Linear probes in closed form: the solver's answer, folds that share nothing, codes that are short where one knows."""

import numpy as np
import pytest
import torch
from scipy.stats import norm
from sklearn.linear_model import BayesianRidge, Ridge

from deixis.eval.probe.ridge import PENALTIES, Columns, Sums, _solve, fit, standardised
from deixis.eval.probe.splits import FRACTIONS, folds_of, make_splits
from deixis.eval.probe.transfer import transfer_scores
from deixis.eval.probe.two_layer import fit_two_layer

from .probe_inputs import classes, flags, made_frames, regression


def test_weights_are_those_of_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(300, 12)).astype(np.float32)
    y = x @ rng.normal(size=(12, 2)) + rng.normal(size=(300, 2)) + 3
    targets = [regression(y[:, :1]), regression(y[:, 1:])]
    columns, rows = Columns.of(targets), torch.arange(200, 300)
    learned = Sums.over(torch.from_numpy(x[:100]), columns.values[:100]) + Sums.over(
        torch.from_numpy(x[100:200]), columns.values[100:200]
    )
    probe = _solve(learned, torch.from_numpy(x[200:]), columns, rows, [0, 1])
    for column in range(2):
        truth = columns.values[:, column].numpy()
        fitted = [Ridge(alpha=penalty * 200).fit(x[:200], truth[:200]) for penalty in PENALTIES]
        best = min(fitted, key=lambda each: np.square(each.predict(x[200:]) - truth[200:]).mean())
        np.testing.assert_allclose(probe.weights[:, column], best.coef_, atol=1e-4)
        assert float(probe.bias[column]) == pytest.approx(float(best.intercept_), abs=1e-4)


def test_no_test_frame_was_learned_from() -> None:
    """Labels of the tested fold are changed: what is predicted of it must not be."""
    frames, rng = made_frames(), np.random.default_rng(0)
    split = make_splits(frames)[0]
    x = standardised(rng.normal(size=(600, 10)))
    y = rng.normal(size=(600, 1))
    usable = np.ones(600, bool)
    first = fit(x, [regression(y)], split, usable).predicted[-1]
    for fold, (train, choose, test) in enumerate(split.folds):
        assert not (test & (train | choose)).any()
        assert not set(frames.episode[test]) & set(frames.episode[train | choose])
        assert not set(frames.episode[choose]) & set(frames.episode[train])
        changed = y.copy()
        # The mean over all frames only sets the scale that the labels are solved in.
        changed[test] = y[test][::-1]
        again = fit(x, [regression(changed)], split, usable).predicted[-1]
        np.testing.assert_allclose(again[test], first[test], atol=2e-3, err_msg=f"fold {fold}")


def test_levels_hold_the_share_they_say_and_each_is_part_of_the_next() -> None:
    frames = made_frames(episodes=400, length=3)
    split = make_splits(frames)[0]
    assert split.levels == FRACTIONS
    for level, share in enumerate(FRACTIONS):
        assert (split.level <= level).mean() == pytest.approx(share, abs=0.01)
    groups = np.repeat(np.arange(37), 5)
    folds = folds_of(groups, 0)
    assert all(len(set(folds[groups == group])) == 1 for group in range(37))
    assert np.ptp(np.bincount(folds)) <= 5


def test_the_code_of_what_is_known_is_as_short_as_theory_says() -> None:
    """Of numbers with noise of a tenth, log2(10) bits are saved once the weights are known; of labels that are sure
    almost their entropy; of what has nothing to do with the features none."""
    frames, rng = made_frames(episodes=800, length=5), np.random.default_rng(0)
    x = rng.normal(size=(4000, 4))
    truth = x[:, :1] * np.sqrt(0.99) + 0.1 * rng.normal(size=(4000, 1))
    sign = x[:, 1] > 0
    noise = rng.normal(size=(4000, 1))
    targets = [regression(truth), flags(sign), regression(noise), classes(rng.integers(0, 3, 4000), 3)]
    found = fit(standardised(x), targets, make_splits(frames)[0], np.ones(4000, bool))
    assert found.bits[0] == pytest.approx(np.log2(10), abs=0.12)  # the first hundredth is coded knowing nothing
    # A line gives a sign's probability as 1/2 + x / sqrt(2 pi), cut off at 0.01 and 0.99.
    at = (np.arange(10_000) + 0.5) / 10_000
    likely = np.clip(0.5 + np.abs(norm.ppf(at)) / np.sqrt(2 * np.pi), 0.01, 0.99)
    assert found.bits[1] == pytest.approx(1 + np.log2(likely).mean(), abs=0.05)
    assert abs(found.bits[2]) < 0.01
    assert abs(found.bits[3]) < 0.05


def test_logme_is_the_evidence_that_scikit_learn_finds() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(400, 20)).astype(np.float32)
    y = x[:, :3].sum(1, keepdims=True) + rng.normal(size=(400, 1))
    standard = standardised(x)
    found = transfer_scores(standard, [regression(y)], np.ones(400, bool))[0]
    values = ((y - y.mean()) / y.std())[:, 0]
    model = BayesianRidge(
        max_iter=500, tol=1e-8, alpha_1=0, alpha_2=0, lambda_1=0, lambda_2=0, compute_score=True, fit_intercept=False
    ).fit(standard.numpy().astype(float), values)
    assert found["logme"] == pytest.approx(model.scores_[-1] / 400, abs=1e-3)


def test_cheap_scores_order_what_is_known_and_what_is_not() -> None:
    rng = np.random.default_rng(0)
    of = rng.integers(0, 4, 600)
    means = rng.normal(size=(4, 10))
    usable = np.ones(600, bool)
    near, far = (standardised(means[of] * 3 / spread + rng.normal(size=(600, 10))) for spread in (1, 10))
    told, untold = (transfer_scores(x, [classes(of, 4)], usable)[0] for x in (near, far))
    assert all(told[name] > untold[name] for name in ("logme", "cka", "h_score"))
    assert told["h_score"] <= 3
    assert transfer_scores(standardised(np.eye(4)[of]), [classes(of, 4)], usable)[0]["h_score"] == pytest.approx(
        3, 0.02
    )
    itself = rng.normal(size=(600, 5))
    itself = np.linalg.qr(itself - itself.mean(0))[0]
    assert transfer_scores(standardised(itself), [regression(itself)], usable)[0]["cka"] == pytest.approx(1, abs=1e-3)


def test_two_layers_read_what_a_line_cannot() -> None:
    frames, rng = made_frames(episodes=300, length=10), np.random.default_rng(0)
    x = rng.normal(size=(3000, 8))
    product = regression(x[:, :1] * x[:, 1:2], "product")
    easy = regression(x[:, 2:3], "itself")
    split, usable = make_splits(frames)[0], np.ones(3000, bool)
    line = fit(standardised(x), [product, easy], split, usable).predicted[-1]
    fold = split.folds[0]
    two = fit_two_layer(standardised(x), [product, easy], fold, 0)
    truth = np.concatenate([product.values, easy.values], 1)[fold[2]]

    def explained(said: np.ndarray) -> np.ndarray:
        return 1 - np.square(said[fold[2]] - truth).mean(0) / truth.var(0)

    assert explained(line)[0] < 0.02
    assert explained(two)[0] > 0.8
    assert explained(line)[1] > 0.999
    assert explained(two)[1] > 0.95
