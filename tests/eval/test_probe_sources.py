"""Features are what the backbone says, are kept under what decides them, and labels are what the simulator knows."""

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from deixis.cli import main
from deixis.datasets.documents import PLACE_TOKENS
from deixis.datasets.language import TOWARDS
from deixis.datasets.store import StoreError, TrajectoryStore
from deixis.envs.collect import collect
from deixis.envs.config import CollectConfig
from deixis.eval.probe.config import ProbeConfig
from deixis.eval.probe.features import Features, extract
from deixis.eval.probe.frames import FrameBatch, Frames
from deixis.eval.probe.frozen import CHUNK, chunks
from deixis.eval.probe.labels import make_targets, told_targets
from deixis.eval.probe.run import short
from deixis.eval.probe.sources import PolicySource, open_source
from deixis.policies.policy import Policy


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> TrajectoryStore:
    config = CollectConfig(suite="tabletop-demo", episodes=24, image_size=32, workers=1)
    return collect(config, tmp_path_factory.mktemp("probe") / "store.zarr", seed=3)


@pytest.fixture(scope="module")
def frames(store: TrajectoryStore) -> Frames:
    return Frames(store, ("front", "wrist"), ProbeConfig(frames=400))


def batch_of(frames: Frames, count: int = 6) -> FrameBatch:
    whole = next(iter(frames.batches(told=True)))
    images = {camera: x[:count] for camera, x in whole.images.items()}
    return FrameBatch(images, whole.proprio[:count], whole.texts[:count], whole.told[:count])


def encoded(policy: Policy, batch: FrameBatch, texts: list[str]) -> torch.Tensor:
    backbone: Any = policy.backbone
    images = {camera: torch.from_numpy(x) for camera, x in batch.images.items()}
    proprio = policy.proprio_normaliser.normalise(torch.from_numpy(batch.proprio))
    with torch.inference_mode():
        return backbone.encode_frames(images, backbone.encode_text(texts), proprio)


def test_the_last_reading_is_what_the_head_is_given(policy_folder: Path, frames: Frames) -> None:
    source, batch = open_source(str(policy_folder)), batch_of(frames)
    read, policy = source.read(batch), Policy.load(policy_folder)
    assert list(read)[4] == "seen"
    torch.testing.assert_close(read["seen"], encoded(policy, batch, batch.texts), rtol=0, atol=0)
    torch.testing.assert_close(read["told:seen"], encoded(policy, batch, batch.told), rtol=0, atol=0)
    backbone: Any = policy.backbone
    with torch.inference_mode():
        grids = backbone.look({camera: torch.from_numpy(x) for camera, x in batch.images.items()})
    assert read["image.1/pooled"].shape == (6, 2 * sum(grid.shape[-1] for grid in grids))
    assert read["image.0/places"].shape == (6, 16 * sum(grid.shape[-1] for grid in grids))


def smallest(kind: str, vision: str) -> Any:
    """A backbone of this route with this image encoder."""
    from deixis.policies.config import BackboneConfig, CodebookConfig, DecoderConfig, VisionConfig

    return BackboneConfig(
        kind=kind,  # type: ignore[arg-type]
        vision=VisionConfig(kind=vision, patch=8, width=16, layers=2, heads=2),  # type: ignore[arg-type]
        decoder=DecoderConfig(width=16, layers=2, heads=2, readouts=2),
        codebook=CodebookConfig(codes=16, width=8),
        width=16,
        image_channels=8,
        text_width=16,
        text_layers=1,
        text_heads=2,
        grounding_width=8,
        key_points=2,
    )


ROUTES = [("modular", k) for k in ("conv", "clip", "siglip", "dinov2", "packed")]
ROUTES += [("compositional", "conv"), ("compositional", "clip"), ("compositional", "packed"), ("fusion", "conv")]


@pytest.mark.parametrize(("kind", "vision"), ROUTES)
def test_every_route_and_image_encoder_is_read_the_same_alone_and_together(
    kind: str, vision: str, frames: Frames
) -> None:
    from deixis.datasets.normalisation import MinMaxNormaliser
    from deixis.policies.backbones.tokenizer import END, TextTokenizer
    from deixis.policies.config import HeadConfig, PolicyConfig

    spec = frames.store.env_spec
    limits = [MinMaxNormaliser(np.full(n, -3.0), np.full(n, 3.0)) for n in (spec.proprio.dim, spec.action.dim)]
    tokenizer = TextTokenizer.train(frames.texts, 300, 64, [END, *PLACE_TOKENS])
    head = HeadConfig(kind="regression", context_width=16, denoiser_width=16, denoiser_blocks=1)
    config = PolicyConfig(smallest(kind, vision), head)
    source = PolicySource(Policy(config, spec, ("front", "wrist"), limits[0], limits[1], tokenizer), "small")
    batch = batch_of(frames, 4)
    read = source.read(batch)
    names = [name.partition("/")[0] for name in read]
    layers = {"conv": 2 if kind == "modular" else 0}.get(vision, 2) if kind != "fusion" else 0
    assert len({name for name in names if name.startswith(("image", "vision"))}) >= layers
    assert len({name for name in names if name.startswith("decoder")}) == (0 if kind == "modular" else 2)
    assert all(torch.isfinite(values).all() and values.shape[0] == 4 for values in read.values())
    assert {name for name in read if name.startswith("told:")} == {f"told:{n}" for n in read if source.worded(n)}
    for row in (0, 3):
        images = {camera: x[row : row + 1] for camera, x in batch.images.items()}
        told = batch.told[row : row + 1]
        alone = source.read(FrameBatch(images, batch.proprio[row : row + 1], batch.texts[row : row + 1], told))
        for name, values in alone.items():
            torch.testing.assert_close(values[0], read[name][row], rtol=1e-3, atol=1e-4, msg=name)
    torch.testing.assert_close(read["seen"], encoded(source.policy, batch, batch.texts).flatten(1).float())


def test_random_and_disturbed_weights_are_other_ones_and_the_same_again(policy_folder: Path, frames: Frames) -> None:
    names = ["", "+random", "+noise0.1", "+noise0.5"]
    digests = [open_source(f"{policy_folder}{name}").digest() for name in names]
    assert len(set(digests)) == 4
    assert digests == [open_source(f"{policy_folder}{name}").digest() for name in names]
    batch = batch_of(frames)
    plain, little, much = (open_source(f"{policy_folder}{n}").read(batch)["seen"] for n in ("", *names[2:]))
    assert 0 < (plain - little).norm() < (plain - much).norm()


def test_features_are_extracted_once_and_found_again(policy_folder: Path, frames: Frames, tmp_path: Path) -> None:
    source = open_source(str(policy_folder))
    first = extract(source, frames, tmp_path, told=True)
    assert first.seconds is not None
    again = extract(open_source(str(policy_folder)), frames, tmp_path, told=True)
    assert again.seconds is None and again.names == first.names and again.told == ["seen"]
    assert isinstance(again.read("seen"), np.memmap)
    direct = torch.cat([source.read(batch)["seen"] for batch in frames.batches()])
    np.testing.assert_array_equal(again.read("seen"), direct)
    assert not np.array_equal(again.read("seen"), again.read("seen", told=True))
    other = extract(open_source(f"{policy_folder}+noise0.1"), frames, tmp_path, told=True)
    assert other.seconds is not None and other.folder != first.folder
    less = Frames(frames.store, frames.cameras, ProbeConfig(frames=100))
    assert extract(source, less, tmp_path, told=True).folder != first.folder
    (first.folder / "readings.json").unlink()  # as if it had been killed
    with pytest.raises(FileNotFoundError):
        Features(first.folder)


def test_labels_are_the_truth(frames: Frames, store: TrajectoryStore) -> None:
    targets = {target.name: target for target in [*make_targets(frames), *told_targets(frames)]}
    assert set(targets) == {
        *("next_action", "progress", "success_ahead", "object_position", "identity", "colour", "shape", "relation"),
        *("grasped", "match", "named_position"),
    }
    for frame in range(0, len(frames), 7):
        episode, t = int(frames.episode[frame]), int(frames.t[frame])
        whole, info = store.episode(episode), frames.infos[episode]
        scene = info["meta"]["scene"]
        objects = whole.streams["privileged.objects"].values[t // 4]
        np.testing.assert_array_equal(targets["next_action"].values[frame], whole.streams["action"].values[t])
        length = len(whole.streams["action"].values)
        assert targets["progress"].values[frame, 0] == pytest.approx(t / (length - 1))
        assert targets["success_ahead"].values[frame, 0] == (length - 1 - t <= 10)
        kinds = {f"{item['colour']} {item['shape']}" for item in scene}
        for column, kind in enumerate(targets["identity"].columns):
            assert targets["identity"].values[frame, column] == (kind in kinds)
        at = targets["object_position"]
        for column, said in enumerate(at.columns):
            axis, colour = "xy".index(said[0]), said.split()[3]
            rows = [row for row, item in enumerate(scene) if item["colour"] == colour]
            assert at.counts[frame, column] == (len(rows) == 1)
            if len(rows) == 1:
                assert at.values[frame, column] == objects[rows[0], axis]
        for column, said in enumerate(targets["relation"].columns):
            one, name, other = said.split(" ")[0], said.split(" ")[1], said.split(" ")[-1]
            rows = [[r for r, item in enumerate(scene) if item["colour"] == c] for c in (one, other)]
            axis, sign = TOWARDS[name]
            if targets["relation"].counts[frame, column]:
                offset = objects[rows[0][0], axis] - objects[rows[1][0], axis]
                assert targets["relation"].values[frame, column] == (sign * offset > 0.03)
        there = frames.named[frame]
        assert targets["match"].values[frame, 0] == bool(there)
        assert targets["named_position"].known[frame] == bool(there)
        if there:
            row = [item["name"] for item in scene].index(there)
            np.testing.assert_array_equal(targets["named_position"].values[frame], objects[row, :2])
    held = targets["grasped"]
    nothing = held.values[:, held.columns.index("nothing")] > 0
    assert nothing[frames.t == 0].all() and not nothing.all()


def test_what_is_told_is_about_the_scene_or_about_nothing_in_it(frames: Frames) -> None:
    assert 0.2 < np.mean([bool(name) for name in frames.named]) < 0.8
    for index in frames.episodes:
        info = frames.infos[index]
        frame = int(np.flatnonzero(frames.episode == index)[0])
        said = [{"text": info["instruction"], "goal": info["meta"]["goal"]}, *info["meta"]["other_instructions"]]
        if frames.named[frame]:
            fitting = [other["goal"]["target"] for other in said if other["text"] == frames.told[frame]]
            assert frames.named[frame] in fitting
        else:
            there = {item["name"] for item in info["meta"]["scene"]}
            donors = [
                frames.infos[i]["meta"]["goal"]["target"]
                for i in frames.episodes
                if frames.infos[i]["instruction"] == frames.told[frame]
            ]
            assert set(donors) - there


def test_declared_labels_are_read_and_refused(store: TrajectoryStore) -> None:
    labels = ("phase=classes:privileged.phase", "joints=regression:proprio", "job=classes:meta.task")
    made = Frames(store, ("front",), ProbeConfig(frames=400, labels=labels))
    found = {target.name: target for target in make_targets(made)}
    assert found["phase"].kind == "classes" and found["phase"].values.sum(1).max() == 1
    np.testing.assert_array_equal(found["joints"].values, made.proprio)
    assert found["job"].columns == ("lift", "place", "push")
    for label, wanted in (
        ("x=regression:no.such", "found no stream 'no.such'"),
        ("x=classes:proprio", "wanted one, which class"),
        ("x=flags:proprio", "other than 0 and 1"),
        ("x=classes:meta.nothing", "found no 'nothing' in the meta of episode"),
    ):
        with pytest.raises(StoreError, match=wanted):
            make_targets(Frames(store, ("front",), ProbeConfig(frames=400, labels=(label,))))
    for label in ("x", "x=numbers:proprio", "x=classes:", "a b=classes:proprio"):
        with pytest.raises(ValueError, match=r"probe\.labels: found"):
            ProbeConfig(labels=(label,))


def test_a_store_too_small_to_hold_anything_out_is_refused(store: TrajectoryStore) -> None:
    with pytest.raises(StoreError, match="wanted at least 10"):
        Frames(store, ("front",), ProbeConfig(frames=50, every=1))


def test_chunks_of_a_frozen_policy_end_with_the_episode(store: TrajectoryStore) -> None:
    frames = Frames(store, ("front",), ProbeConfig(), range(5))
    actions, is_pad = chunks(frames)
    start = 0
    for index in range(5):
        own = store.episode(index).streams["action"].values
        for t in (0, len(own) - 3, len(own) - 1):
            left = min(CHUNK, len(own) - t)
            np.testing.assert_array_equal(actions[start + t, :left], own[t : t + left])
            assert is_pad[start + t].tolist() == [False] * left + [True] * (CHUNK - left)
        start += len(own)


TEXTS = ["lift the red cube", "拿起红色方块", "push the ball", ""]


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    from transformers import PreTrainedTokenizerFast

    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)  # type: ignore[assignment]
    made.decoder = decoders.ByteLevel()  # type: ignore[assignment]
    special = ["<s>", "<pad>", "</s>", "<image>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    made.train_from_iterator(
        TEXTS, trainers.BpeTrainer(vocab_size=300, special_tokens=special, initial_alphabet=alphabet)
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=made, bos_token="<s>", pad_token="<pad>", eos_token="</s>", extra_special_tokens=["<image>"]
    )


VISION: dict[str, Any] = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 32,
    "patch_size": 8,
}


@pytest.fixture(scope="module")
def library_models(tmp_path_factory: pytest.TempPathFactory, tokenizer: Any) -> dict[str, Path]:
    """Small models as transformers saves them: an image tower, a CLIP, a LLaVA, and one that does not see."""
    from transformers import (
        BertConfig,
        BertModel,
        CLIPConfig,
        CLIPImageProcessor,
        CLIPModel,
        CLIPVisionConfig,
        Dinov2Config,
        Dinov2Model,
        LlamaConfig,
        LlavaConfig,
        LlavaForConditionalGeneration,
        LlavaProcessor,
    )

    torch.manual_seed(0)
    folders = {name: tmp_path_factory.mktemp(name) for name in ("vision", "pair", "language", "blind")}
    dino = {name: value for name, value in VISION.items() if name != "intermediate_size"}
    Dinov2Model(Dinov2Config(**dino, mlp_ratio=2)).save_pretrained(folders["vision"])
    text = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    text |= {"vocab_size": len(tokenizer), "eos_token_id": tokenizer.eos_token_id, "max_position_embeddings": 40}
    CLIPModel(CLIPConfig(vision_config=VISION, text_config=text, projection_dim=12)).save_pretrained(folders["pair"])
    pictures = CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    pictures.save_pretrained(folders["pair"])
    tokenizer.save_pretrained(folders["pair"])
    llama = LlamaConfig(
        hidden_size=24,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        vocab_size=len(tokenizer),
    )
    image = tokenizer.convert_tokens_to_ids("<image>")
    config = LlavaConfig(vision_config=CLIPVisionConfig(**VISION), text_config=llama, image_token_index=image)
    LlavaForConditionalGeneration(config).save_pretrained(folders["language"])
    LlavaProcessor(
        image_processor=pictures,
        tokenizer=tokenizer,
        patch_size=8,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        image_token="<image>",
    ).save_pretrained(folders["language"])
    BertModel(
        BertConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16)
    ).save_pretrained(folders["blind"])
    return folders


def pictures_of(count: int = 4) -> FrameBatch:
    rng = np.random.default_rng(0)
    images = {camera: rng.integers(0, 256, (count, 48, 48, 3)).astype(np.uint8) for camera in ("front", "wrist")}
    return FrameBatch(images, np.zeros((count, 3), np.float32), TEXTS[:count], TEXTS[:count][::-1])


def test_a_vision_tower_is_read_layer_by_layer(library_models: dict[str, Path]) -> None:
    from transformers import AutoModel

    source, batch = open_source(str(library_models["vision"])), pictures_of()
    read = source.read(batch)
    layers = [f"layer.{i}/{how}" for i in range(3) for how in ("class", "pooled", "places")]
    assert list(read) == layers and not any(source.worded(name) for name in read)
    model = AutoModel.from_pretrained(library_models["vision"]).eval()
    front = torch.from_numpy(batch.images["front"]).permute(0, 3, 1, 2).float() / 255
    front = torch.nn.functional.interpolate(front, (32, 32), mode="bilinear", antialias=True)
    mean, deviation = (torch.tensor(x).view(3, 1, 1) for x in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    with torch.inference_mode():
        states = model(pixel_values=(front - mean) / deviation, output_hidden_states=True).hidden_states
    for layer in range(3):
        torch.testing.assert_close(read[f"layer.{layer}/class"][:, :16], states[layer][:, 0], rtol=1e-4, atol=1e-4)
        patches = states[layer][:, 1:]
        pooled = torch.cat([patches.mean(1), patches.amax(1)], 1)
        torch.testing.assert_close(read[f"layer.{layer}/pooled"][:, :32], pooled, rtol=1e-4, atol=1e-4)
        squares = patches.transpose(1, 2).flatten(1)  # 4 x 4 patches are the squares
        torch.testing.assert_close(read[f"layer.{layer}/places"][:, :256], squares, rtol=1e-4, atol=1e-4)


def test_a_pair_joins_both_towers_as_the_library_does(library_models: dict[str, Path], tokenizer: Any) -> None:
    from transformers import CLIPModel

    source, batch = open_source(str(library_models["pair"])), pictures_of()
    read = source.read(batch)
    assert [name for name in read if source.worded(name.removeprefix("told:"))] == ["joint", "told:joint"]
    model: Any = CLIPModel.from_pretrained(library_models["pair"]).eval()
    tokens = tokenizer(TEXTS, padding="max_length", max_length=40, truncation=True, return_tensors="pt")
    with torch.inference_mode():
        pooled = model.text_model(tokens["input_ids"], attention_mask=tokens["attention_mask"]).pooler_output
        texts = torch.nn.functional.normalize(model.text_projection(pooled), dim=-1)
    front, said = read["joint"][:, :12], read["joint"][:, 24:36]
    torch.testing.assert_close(said, texts, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(front.norm(dim=1), torch.ones(4))
    torch.testing.assert_close(read["joint"][:, 36:48], front * said)
    torch.testing.assert_close(read["told:joint"][:, 24:36], texts.flip(0), rtol=1e-4, atol=1e-4)


def test_a_language_model_that_sees_reads_frames_alone_or_together_alike(library_models: dict[str, Path]) -> None:
    source, batch = open_source(str(library_models["language"])), pictures_of()
    read = source.read(batch)
    assert all(source.worded(name) for name in read)
    for row in range(4):
        images = {camera: x[row : row + 1] for camera, x in batch.images.items()}
        alone = source.read(FrameBatch(images, batch.proprio[row : row + 1], batch.texts[row : row + 1]))
        for name, values in alone.items():
            torch.testing.assert_close(values[0], read[name][row], rtol=1e-4, atol=1e-4)
    dark = {**batch.images, "wrist": np.zeros_like(batch.images["wrist"])}
    other = source.read(FrameBatch(dark, batch.proprio, batch.texts))
    assert not torch.allclose(other["layer.2/last"], read["layer.2/last"]), "it sees the second camera"
    assert not torch.allclose(read["told:layer.2/last"], read["layer.2/last"]), "and reads"


def test_what_cannot_be_probed_is_refused(library_models: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="model_type 'bert', which has no images"):
        open_source(str(library_models["blind"]))
    with pytest.raises(FileNotFoundError, match="found nothing to probe"):
        open_source(str(tmp_path / "nothing"))
    bare = tmp_path / "bare"
    bare.mkdir()
    for name in ("config.json", "model.safetensors"):
        (bare / name).write_bytes((library_models["language"] / name).read_bytes())
    with pytest.raises(ValueError, match="found no processor"):
        open_source(str(bare))
    source = copy.copy(open_source(str(library_models["vision"])))
    assert source.untrained(0).digest() == source.untrained(0).digest() != source.digest()


@pytest.mark.parametrize("kind", ["vision", "pair", "language"])
def test_the_command_checks_a_model_of_the_library(
    kind: str, library_models: dict[str, Path], store: TrajectoryStore, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    arguments = ["probe", str(library_models[kind]), "--store", str(store.path), "--out", str(tmp_path)]
    assert main([*arguments, "--probe.frames", "300", "--probe.threads", "1"]) == 0
    said = capsys.readouterr().out
    assert "take the layer" in said
    record = json.loads((tmp_path / "probe.json").read_text())["metrics"]
    assert "object_position.score" in record and 0 <= record["colour.score"] <= 1 and "colour.logme" in record
    assert ("match.score" in record) == (kind != "vision")
    page = (tmp_path / "probe.html").read_text()
    assert ("no words enter this backbone" in page) == (kind == "vision")


def test_the_command_judges_policies_on_frozen_backbones(
    policy_folder: Path,
    store: TrajectoryStore,
    tmp_path: Path,
    capsys: pytest.CaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("deixis.eval.probe.frozen.STEPS", 20)
    places = [f"{policy_folder}{change}" for change in ("", "+random", "+noise0.2", "+noise0.4")]
    arguments = ["probe", *places, "--store", str(store.path), "--out", str(tmp_path), "--probe.frames", "200"]
    arguments += ["--probe.rollouts", "2", "--probe.demonstrations", "12", "--probe.threads", "1"]
    assert main(arguments) == 0
    record = json.loads((tmp_path / "probe.json").read_text())
    metrics = record["metrics"]
    assert metrics["n_backbones"] == 4 and record["seeds"] == [0]
    assert -1 <= metrics["spearman_mean"] <= 1
    assert sum(name.endswith(".success_rate") for name in metrics) == 4
    assert "Does the check predict success?" in (tmp_path / "probe.html").read_text()
    known = list((tmp_path / "features").glob("frozen-*.json"))
    assert len(known) == 4
    capsys.readouterr()
    assert main(["probe", places[0], *arguments[1:]]) == 1
    assert "twice, wanted each once" in capsys.readouterr().err


def test_names_in_records_say_which_backbone_it_was() -> None:
    assert short("runs/demo/policy") == "demo"
    assert short("runs/demo/policy+noise0.3") == "demo+noise03"
    assert short("../runs/alignment/both-0/policy") == "alignment/both-0"
    assert short("facebook/dinov2-small") == "facebook/dinov2-small"


def test_the_backbone_of_a_policy_in_training_stays_as_it_is(policy_folder: Path) -> None:
    from deixis.eval.probe.watcher import probe_watcher

    policy = Policy.load(policy_folder)
    with pytest.raises(StoreError):
        probe_watcher(1, 100, policy_folder / "no.zarr", policy_folder / "best").look(policy)
    assert isinstance(PolicySource(copy.deepcopy(policy), "copy").policy, Policy)
