"""`deixis study`: what its file may say, what all variants share, and that nothing is done twice."""

from __future__ import annotations

import csv
import itertools
import json
import os
from pathlib import Path

import pytest
import torch

from deixis.cli import main
from deixis.policies.policy import Policy
from deixis.policies.serialisation import load_tensors
from deixis.study import read_study, study_names, variant_config

DATA = Path(os.environ.get("DEIXIS_DATA", Path(__file__).parents[2] / "shared" / "data"))
TINY = """
preset: pusht_state
judged: 2
seeds: [0, 1]
variants:
  small: {policy.head.unet_channels: [8, 16], policy.head.inference_steps: 2}
  l1: {policy.head.kind: regression, policy.head.denoiser_width: 32}
  one-step: {like: small, policy.head.inference_steps: 1}
"""
SETTINGS = ["--unaligned.steps", "4", "--policy_every", "2", "--log_every", "2", "--unaligned.batch_size", "16"]
SETTINGS += [
    "--eval.episodes",
    "2",
    "--collect.episodes",
    "2",
    "--threads",
    "1",
    "--tensorboard",
    "false",
    "--eval.workers",
    "1",
]


@pytest.mark.parametrize("name", study_names())
def test_every_study_that_comes_with_deixis_can_be_read(name: str) -> None:
    study = read_study(name)
    for variant, suite in itertools.product(study.variants, study.suites or [None]):
        config = variant_config(study, variant, study.seeds[0], suite)
        assert config.out == f"runs/{name}", "not where the preset's own run lies"
        if study.judged > 1:
            stage = config.unaligned if not config.align.steps else config.imitate
            assert config.policy_every * study.judged <= stage.steps and config.keep_policies >= study.judged


def test_a_variant_is_the_preset_with_its_settings(tmp_path: Path) -> None:
    file = tmp_path / "tiny.yaml"
    file.write_text(TINY)
    study = read_study(str(file))
    config = variant_config(study, "small", 1, None, ["--policy.head.inference_steps", "3"])
    assert config.policy.head.unet_channels == (8, 16) and config.seed == 1
    assert config.policy.head.inference_steps == 3, "what the user types wins"
    assert config.policy.backbone.kind == "state", "the rest is the preset's"


def test_what_all_variants_change_yields_to_what_one_changes(tmp_path: Path) -> None:
    file = tmp_path / "tiny.yaml"
    shared = "settings: {eval.episodes: 7, policy.head.inference_steps: 5}\n"
    file.write_text(f"preset: pusht_state\n{shared}variants: {{a: {{}}, b: {{policy.head.inference_steps: 2}}}}\n")
    study = read_study(str(file))
    plain, own = (variant_config(study, name, 0) for name in "ab")
    assert (plain.policy.head.inference_steps, own.policy.head.inference_steps) == (5, 2)
    assert plain.eval.episodes == own.eval.episodes == 7


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("preset: pusht_state\nvariants: {a: {}}\nsettings: [1]\n", "settings: found [1]"),
        ("preset: pusht_state", "wanted preset, variants"),
        ("preset: pusht_state\nvariants: {}\n", "variants: found {}"),
        ("preset: pusht_state\nvariants: {a: 3}\n", "variants: found"),
        ("preset: pusht_state\nvariants: {a: {}}\nseeds: [x]\n", "seeds: found"),
        ("preset: pusht_state\nvariants: {a: {}}\njudged: 0\n", "judged: found 0"),
        ("preset: pusht_state\nvariants: {backbone: {}}\n", "found 'backbone', wanted another name"),
        ("preset: pusht_state\nvariants: {a: {}}\nshare_backbone: true\n", "found align.steps and perceive.steps 0"),
        ("preset: pusht_state\nvariants: {a: {like: b}}\n", "variants.a.like: found 'b'"),
        ("preset: pusht_state\nvariants: {a: {}, b: {like: a}, c: {like: b}}\n", "variants.c.like: found 'b'"),
        ("preset: pusht_state\nvariants: {a: {}, b: {like: a, seed: 3}}\n", "variants.b: found ['seed']"),
        ("preset: pusht_state\nvariants: {a: {}}\nalso: [magic]\n", "also: found ['magic']"),
        ("preset: pusht_state\nvariants: {a: {}}\nalso: alignment\n", "also: found 'alignment'"),
        ("preset: pusht_state\nvariants: {a: {}}\nalso: {alignment: ../x}\n", "also: found {'alignment': '../x'}"),
        ("preset: pusht_state\nvariants: {a: {}}\nshare_backbone: 2\n", "share_backbone: found 2"),
        ("preset: pusht_state\nvariants: {a: {}}\nbackbones: [b]\n", "backbones: found ['b']"),
        ("preset: demo\nvariants: {a: {}, b: {like: a}}\nbackbones: {c: {}}\n", "variants.b.like: found beside"),
        ("preset: pusht_state\nvariants: {a: {}}\nmore: 1\n", "wanted preset, variants"),
        ("preset: [", "not readable as YAML"),
        ("preset: nowhere\nvariants: {a: {}}\n", "no configuration 'nowhere'"),
        ("preset: pusht_state\nvariants: {a: {policy.head.kid: token}}\n", "policy.head.kind"),
    ],
)
def test_a_file_that_does_not_fit_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, said: str
) -> None:
    file = tmp_path / "tiny.yaml"
    file.write_text(text)
    assert main(["study", str(file), "--out", str(tmp_path / "out")]) in (1, 2)
    assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_unknown_names_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["study", "pusht"]) == 2
    assert "pusht_state" in capsys.readouterr().err
    assert main(["study", "pusht_state", "--variants", "magic", "--out", str(tmp_path)]) != 0
    assert "no variants ['magic']" in capsys.readouterr().err
    assert main(["study", "pusht_state", "--seeds", "0,magic", "--out", str(tmp_path)]) != 0
    assert "no seeds ['magic']" in capsys.readouterr().err


def test_a_study_trains_and_judges_all_alike_and_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("gym_pusht", reason="needs deixis[pusht]", exc_type=ImportError)
    if not (DATA / "pusht_cchi_v7_replay.zarr").exists():
        pytest.skip(f"{DATA} has no Push-T demonstrations of Chi et al. 2023")
    monkeypatch.setenv("DEIXIS_DATA", str(DATA))
    file, record, out = tmp_path / "tiny.yaml", tmp_path / "tiny.json", tmp_path / "out"
    file.write_text(TINY)
    command = ["study", str(file), "--out", str(out), "--json", str(record), "--curves", str(tmp_path), *SETTINGS]
    assert main([*command, "--variants", "small"]) == 0
    first = json.loads(record.read_text())["metrics"]
    assert {name.partition(".")[0] for name in first} == {"small"}
    assert first["small.policies"] == 4 and first["small.starts"] == 2
    weights = (out / "small-1" / "policy" / "model.safetensors").stat().st_mtime_ns
    judged = (out / "small-1" / "judged" / "00000004.parquet").stat().st_mtime_ns
    assert main(command) == 0
    both = json.loads(record.read_text())
    assert {name.partition(".")[0] for name in both["metrics"]} == {"small", "l1", "one-step"}
    assert both["seeds"] == [0, 1] and all(
        both["metrics"][f"{name}.ms_per_chunk"] > 0 for name in ("small", "one-step")
    )
    assert {n: v for n, v in both["metrics"].items() if n.startswith("small.")} == first, "nothing was done again"
    assert (out / "small-1" / "policy" / "model.safetensors").stat().st_mtime_ns == weights
    assert (out / "small-1" / "judged" / "00000004.parquet").stat().st_mtime_ns == judged
    with (tmp_path / "tiny_scores.csv").open() as lines:
        rows = list(csv.DictReader(lines))
    assert len(rows) == 12 and {row["variant"] for row in rows} == {"small", "l1", "one-step"}
    same = [load_tensors(out / f"{name}-1" / "policy" / "model.safetensors") for name in ("small", "one-step")]
    assert all(torch.equal(same[0][name], same[1][name]) for name in same[0]), "the same weights"
    assert Policy.load(out / "one-step-1" / "policy").config.head.inference_steps == 1
    assert (out / "one-step-0" / "policies" / "00000004").is_dir()
    chart = (tmp_path / "tiny.svg").read_text()
    assert all(name in chart for name in ("small", "l1", "one-step"))
    of_small = [float(row["score"]) for row in rows if row["variant"] == "small"]
    assert sum(of_small) / 4 == pytest.approx(first["small.score"], abs=1e-5)


def test_variants_can_share_a_backbone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("gym_pusht", reason="needs deixis[pusht]", exc_type=ImportError)
    if not (DATA / "pusht_cchi_v7_replay.zarr").exists():
        pytest.skip(f"{DATA} has no Push-T demonstrations of Chi et al. 2023")
    monkeypatch.setenv("DEIXIS_DATA", str(DATA))
    file, out = tmp_path / "tiny.yaml", tmp_path / "out"
    file.write_text(
        TINY.replace("pusht_state", "pusht_image").replace("judged: 2", "share_backbone: true").replace("[0, 1]", "[3]")
    )
    settings = [setting.replace("unaligned", "imitate") for setting in SETTINGS] + ["--perceive.steps", "2"]
    assert main(["study", str(file), "--out", str(out), "--json", str(tmp_path / "tiny.json"), *settings]) == 0
    metrics = json.loads((tmp_path / "tiny.json").read_text())["metrics"]
    assert {name.partition(".")[0] for name in metrics} == {"small", "l1", "one-step", "backbone"}
    assert metrics["backbone.train_seconds"] > 0

    def stages(folder: str) -> set[str]:
        return {json.loads(line)["stage"] for line in (out / folder / "training.jsonl").read_text().splitlines()}

    assert stages("backbone-3") == {"perceive"} and stages("small-3") == stages("l1-3") == {"imitate"}
    image = [load_tensors(out / name / "policy" / "model.safetensors") for name in ("backbone-3", "small-3", "l1-3")]
    names = [name for name in image[0] if name.startswith("backbone.image")]
    assert names and all(torch.equal(image[0][name], other[name]) for name in names for other in image[1:])


TABLETOP = """
preset: demo
also: [alignment]
settings:
  collect.episodes: 6
  align.steps: 2
  align.batch_size: 8
  imitate.steps: 2
  imitate.batch_size: 8
  eval.episodes: 3
  eval.conditions: [correct]
  log_every: 1
  threads: 1
variants:
  l1: {}
"""


def test_what_else_is_asked_stands_in_the_record_and_is_not_asked_again(tmp_path: Path) -> None:
    file, record, out = tmp_path / "tiny.yaml", tmp_path / "tiny.json", tmp_path / "out"
    file.write_text(TABLETOP)
    command = ["study", str(file), "--out", str(out), "--json", str(record), "--curves", str(tmp_path)]
    assert main(command) == 0
    metrics = json.loads(record.read_text())["metrics"]
    assert metrics["l1.starts"] == 3 and metrics["l1.parameters_millions"] > 0.1
    assert metrics["l1.alignment.scenes"] == 3
    assert metrics["l1.alignment.retrieval_zh.chance_at_1"] == pytest.approx(1 / 3)
    asked = (out / "l1-0" / "alignment.json").stat().st_mtime_ns
    assert main(command) == 0
    assert (out / "l1-0" / "alignment.json").stat().st_mtime_ns == asked
    assert json.loads(record.read_text())["metrics"] == metrics


ROUTES = TABLETOP.replace("also: [alignment]", "seeds: [0, 1]\nalso: {alignment: tiny_alignment}")
ROUTES = ROUTES.replace("variants:\n  l1: {}", "variants:\n  l1: {}\n  l2: {policy.head.denoiser_width: 16}")
ROUTES += """
backbones:
  modular: {}
  compositional: {preset: compositional, policy.backbone.decoder.layers: 1, policy.backbone.vision.width: 16}
"""


def test_every_variant_is_trained_on_each_backbone_whose_alignment_has_a_record_of_its_own(tmp_path: Path) -> None:
    file, record, out = tmp_path / "tiny.yaml", tmp_path / "tiny.json", tmp_path / "out"
    file.write_text(ROUTES)
    command = ["study", str(file), "--out", str(out), "--json", str(record), "--curves", str(tmp_path), "--seeds", "1"]
    assert main(command) == 0
    metrics = json.loads(record.read_text())["metrics"]
    trained = {f"{route}-{head}" for route in ("modular", "compositional") for head in ("l1", "l2")}
    assert {name.partition(".")[0] for name in metrics} == {*trained, "backbone"}
    assert metrics["backbone.modular.train_seconds"] > 0 and metrics["backbone.compositional.train_seconds"] > 0
    assert not any("retrieval" in name for name in metrics)
    aligned = json.loads((tmp_path / "tiny_alignment.json").read_text())["metrics"]
    assert {name.partition(".")[0] for name in aligned} == {"modular", "compositional"}
    assert aligned["compositional.retrieval_en.chance_at_1"] == pytest.approx(1 / 3)
    kinds = {name: Policy.load(out / f"{name}-1" / "policy").config.backbone.kind for name in trained}
    assert kinds == {name: name.partition("-")[0] for name in trained}
    assert {path.name for path in out.glob("*-?")} == {f"{n}-1" for n in trained} | {
        "backbone-modular-1",
        "backbone-compositional-1",
    }
