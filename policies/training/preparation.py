"""What training needs of a store before the first step: the gate, windows, statistics, words and a fresh policy."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ...datasets.documents import NOWHERE, PLACE_TOKENS, write_documents
from ...datasets.findings import GateReport
from ...datasets.grounding import GroundingDataset
from ...datasets.language import LANGUAGES, SHAPE_WORDS, caption, language_of, noun_phrases
from ...datasets.normalisation import fit_normalisers
from ...datasets.store import StoreError, TrajectoryStore
from ...datasets.subgoals import PHASE_STREAM, PHASES, ask, subgoal, with_subgoal
from ...datasets.timestamps import require_ok
from ...datasets.windows import WindowDataset, WindowSpec
from ..backbones import SPEAKING
from ..backbones.pretrained import load_tokenizer, load_weights
from ..backbones.tokenizer import END, TextTokenizer
from ..config import TrainConfig, to_dict
from ..policy import Policy

CAPTIONS_FOR_TOKENIZER = 2  # per episode and language


@dataclass(frozen=True)
class Prepared:
    """A store made ready for training.

    Attributes:
        store: that passed the gate.
        cameras: used, in order.
        windows: all windows of all episodes.
        grounding: all frames with a segmentation, or None when alignment is left out.
        vocabulary: the distinct kinds of objects shown, {"colour", "shape"} each.
    """

    store: TrajectoryStore
    cameras: tuple[str, ...]
    windows: WindowDataset
    grounding: GroundingDataset | None
    vocabulary: list[dict[str, Any]]


def prepare(config: TrainConfig, store_path: str, checked: GateReport | None = None) -> Prepared:
    """Check a store, unless `checked` says what the gate has found, and open it as windows and grounding items.

    Raises:
        GateError: the store has errors; training refuses it.
        ValueError: a camera that the store does not have, or sub-goals that it does not tell.
    """
    store = TrajectoryStore.open(store_path)
    require_ok(store, checked)
    known = store.env_spec.camera_names
    sees = config.policy.backbone.kind != "state"
    if (config.align.steps or config.perceive.steps) and not sees:
        raise ValueError("align.steps, perceive.steps: the backbone 'state' sees and reads nothing; set both to 0")
    if config.policy.backbone.kind == "fusion" and not (config.codebook.steps or config.backbone_from):
        raise ValueError(
            "codebook.steps: found 0, wanted steps for the backbone 'fusion', whose pictures are codes that have to be "
            "learned first; or backbone_from"
        )
    cameras = (config.cameras or known) if sees else ()
    for camera in cameras:
        if camera not in known:
            raise ValueError(f"cameras: {camera!r} is not in {store_path}, which has {list(known)}")
    horizon = config.policy.action_horizon
    windows = WindowDataset(store, WindowSpec(config.policy.obs_horizon, horizon), cameras)
    if config.policy.subgoals:
        _tell_subgoals(store, windows)
    grounding = None
    if config.align.steps:
        frames = {camera: windows.frames(camera) for camera in cameras}
        grounding = GroundingDataset(store, cameras, horizon, frames=frames)
    return Prepared(store, cameras, windows, grounding, object_kinds(scenes(store)))


def _tell_subgoals(store: TrajectoryStore, windows: WindowDataset) -> None:
    """Add to every window's instruction what the expert was about; StoreError where the store does not say it."""
    if PHASE_STREAM not in store.streams:
        raise StoreError(
            f"{store.path}: found no stream {PHASE_STREAM!r}, wanted what the expert was about for policy.subgoals; "
            "collect the demonstrations with this version, or set policy.subgoals to false"
        )
    pairs = list(zip(windows.episode.tolist(), windows.at_controls(PHASE_STREAM)[:, 0].tolist(), strict=True))
    texts = {}
    for episode, phase in dict.fromkeys(pairs):
        info = store.episode_info(episode)
        texts[episode, phase] = with_subgoal(info["instruction"], _spoken(info, PHASES[phase]))
    windows.tell([texts[pair] for pair in pairs])


def _spoken(info: Mapping[str, Any], phase: str) -> str:
    """The sub-goal of a phase in the episode of this `episode_info`."""
    return subgoal(phase, info["meta"]["goal"], info["meta"]["scene"], language_of(info["instruction"]))


def scenes(store: TrajectoryStore) -> list[Sequence[Mapping[str, Any]]]:
    """The scene of every episode; empty ones where a store does not tell it in colours and shapes."""
    told = [store.episode_info(i)["meta"].get("scene", []) for i in range(len(store))]
    return [scene if all({"colour", "shape"} <= set(item) for item in scene) else [] for scene in told]


def object_kinds(all_scenes: Sequence[Sequence[Mapping[str, Any]]]) -> list[dict[str, Any]]:
    """The distinct (colour, shape) of all scenes, sorted."""
    kinds = {(item["colour"], item["shape"]) for scene in all_scenes for item in scene}
    return [{"colour": c, "shape": s} for c, s in sorted(kinds, key=lambda kind: (kind[0] or "", kind[1]))]


def train_tokenizer(config: TrainConfig, prepared: Prepared) -> TextTokenizer:
    """A tokenizer of the store's instructions and of texts about its scenes; or that of what is to be loaded."""
    backbone = config.policy.backbone
    marks = [END, *PLACE_TOKENS] if backbone.kind in SPEAKING else []  # it also speaks
    loaded = load_tokenizer(backbone, marks)
    if loaded is not None:
        return loaded
    store = prepared.store
    texts = {store.episode_info(i)["instruction"] for i in range(len(store))}
    rng = np.random.default_rng([config.seed, len(store)])
    for language in LANGUAGES:
        for kind in prepared.vocabulary:
            if kind["shape"] in SHAPE_WORDS[language]:
                texts.update(noun_phrases(kind["colour"], kind["shape"], language))
        for scene in scenes(store):
            if scene:
                texts.update(caption(scene, rng, language) for _ in range(CAPTIONS_FOR_TOKENIZER))
    if marks:
        texts.update(_documents(prepared, rng))
    if config.policy.subgoals:
        for info in map(store.episode_info, range(len(store))):
            texts.add(ask(info["instruction"]))
            texts.update(with_subgoal("", _spoken(info, phase)) for phase in PHASES)
    return TextTokenizer.train(texts, backbone.vocabulary, backbone.max_text_tokens, marks)


def _documents(prepared: Prepared, rng: np.random.Generator) -> Iterator[str]:
    """The words of documents about the store's scenes, without their places."""
    nothing = np.zeros((1, 1), np.uint8)
    for i, scene in enumerate(scenes(prepared.store)):
        if scene:
            requests = [(prepared.store.episode_info(i)["instruction"], 1)]
            for document in write_documents(scene, nothing, requests, [], True, CAPTIONS_FOR_TOKENIZER * 4, rng):
                yield document.prompt
                yield document.answer.replace(NOWHERE, "")


def fit_head(policy: Policy, prepared: Prepared) -> None:
    """Give the head what it takes from the data: all chunks of the store, normalised."""
    windows, device = prepared.windows, policy.action_low.device
    numbers = windows.numbers(np.arange(len(windows)))
    actions = policy.action_normaliser.normalise(torch.from_numpy(numbers["actions"]).to(device))
    policy.head.fit(actions, torch.from_numpy(numbers["is_pad"]).to(device))


def new_policy(
    config: TrainConfig, prepared: Prepared, tokenizer: TextTokenizer, source: Policy | None = None
) -> Policy:
    """An untrained policy with normalisers from the store. Draws its weights from torch's global generator.

    With a source, its backbone is that of the source, and proprioception is normalised as that backbone learned it.
    Raises ValueError where the two do not fit.
    """
    normalisers, backbone = fit_normalisers(prepared.store), None
    if source is not None:
        _check_backbone(source, config, prepared)
        normalisers, backbone = {**normalisers, "proprio": source.proprio_normaliser}, source.backbone.state_dict()
    policy = Policy(
        config.policy,
        prepared.store.env_spec,
        prepared.cameras,
        normalisers["proprio"],
        normalisers["action"],
        tokenizer,
    )
    if backbone is not None:
        policy.backbone.load_state_dict(backbone)
    else:
        load_weights(policy.backbone, config.policy.backbone)
    return policy


def _check_backbone(source: Policy, config: TrainConfig, prepared: Prepared) -> None:
    """ValueError unless the backbone of `source` is one for a policy of this run."""
    spec = prepared.store.env_spec
    sizes = {name: (spec.camera(name).height, spec.camera(name).width) for name in prepared.cameras}
    pairs: dict[str, tuple[Any, Any]] = {
        "cameras": (source.cameras, sizes),
        "proprioception": (source.spec.proprio.names, spec.proprio.names),
        "policy.obs_horizon": (source.config.obs_horizon, config.policy.obs_horizon),
    }
    has, wants = to_dict(source.config.backbone), to_dict(config.policy.backbone)
    pairs |= {f"policy.backbone.{name}": (has[name], wants[name]) for name in wants}
    for name, (found, wanted) in pairs.items():
        if found != wanted:
            raise ValueError(
                f"backbone_from {config.backbone_from}: {name}: found {found}, wanted {wanted}; set what this run sets "
                "as the policy there did, or start with another"
            )
