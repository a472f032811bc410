"""The command line: presets, overrides, and how mistakes are answered."""

from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from deixis import run_steps
from deixis.cli import COMMANDS, main
from deixis.eval.records import Record
from deixis.run_config import (
    PRESETS,
    ConfigError,
    RunConfig,
    expand,
    find_preset,
    nearest_keys,
    read_run_config,
    setting_types,
    write_sections,
)

ALL = COMMANDS["demo"].sections


def read(*arguments: str) -> RunConfig:
    return read_run_config("demo", arguments, ALL, {})[0]


def message(*arguments: str) -> str:
    with pytest.raises(ConfigError) as refusal:
        read(*arguments)
    return str(refusal.value)


def yaml_file(folder: Path, text: str) -> str:
    path = folder / "mine.yaml"
    path.write_text(text, "utf-8")
    return str(path)


def test_no_arguments_mean_the_defaults() -> None:
    assert read() == RunConfig()


@pytest.mark.parametrize("preset", sorted(path.stem for path in PRESETS.glob("*.yaml")))
def test_every_preset_reads_by_its_bare_name_and_by_its_path(preset: str) -> None:
    assert read("--config", preset) == read("--config", str(PRESETS / f"{preset}.yaml"))


def test_demo_preset_is_the_default_run_with_regression_that_looks_more_often() -> None:
    default = RunConfig()
    policy = replace(default.policy, head=replace(default.policy.head, kind="regression"))
    assert read("--config", "demo") == replace(default, policy=policy, eval=replace(default.eval, exec_horizon=2))


def test_overrides_win_over_the_file_wherever_they_stand(tmp_path: Path) -> None:
    path = yaml_file(tmp_path, "align: {steps: 7, lr: 1e-3}\neval: {episodes: 9}\n")
    for arguments in (["--align.steps", "0", "--config", path], [f"--config={path}", "--align.steps=0"]):
        config = read(*arguments)
        assert (config.align.steps, config.align.lr, config.eval.episodes) == (0, 1e-3, 9)


def test_overrides_of_every_kind_of_value() -> None:
    config = read(
        *("--policy.head.kind", "regression", "--eval.conditions", "[correct,'null']", "--eval.control_episodes", "4"),
        *("--align.trainable.image", "0.5", "--imitate.betas", "[0.9, 0.99]", "--tensorboard", "false"),
    )
    assert config.policy.head.kind == "regression"
    assert config.eval.conditions == ("correct", "null")
    assert config.eval.control_episodes == 4
    assert config.align.trainable == {**RunConfig().align.trainable, "image": 0.5}
    assert config.imitate.betas == (0.9, 0.99)
    assert config.tensorboard is False


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--alin.steps", "3"], ["'alin.steps'", "command line", "nearest valid key: align.steps"]),
        (["--steps", "3"], ["'steps'", "align.steps", "imitate.steps"]),
        (["--policy.head.knd=x"], ["'policy.head.knd'", "policy.head.kind"]),
        (["--eval.episode", "3"], ["nearest valid key: eval.episodes"]),
        (["--align", "x.yaml"], ["'align'", "align."]),
        (["--zzz", "1"], ["'zzz'", "valid keys begin with", "collect"]),
        (["--align.steps", "many"], ["align.steps: found 'many', wanted int", "command line"]),
        (["--align.steps", "1.5"], ["align.steps: found '1.5', wanted int"]),
        (["--policy.head.kind", "magic"], ["policy.head.kind", "magic", "diffusion"]),
        (["--eval.control_episodes", "some"], ["eval.control_episodes", "some", "int"]),
        (["--align.betas", "[1]"], ["align.betas", "tuple[float, float]"]),
        (["--align.steps"], ["--align.steps", "expected one argument"]),
        (["--eval.conditions", "[corect]"], ["eval.conditions", "corect", "correct"]),
        (["--eval.conditions", "[correct,null]"], ["eval.conditions", "in quotes"]),
        (["--config", "dmo"], ["'dmo'", "did you mean 'demo'"]),
        (["--config"], ["--config needs"]),
        (["--config", "demo", "--config", "smoke"], ["twice"]),
        (["surplus"], ["surplus"]),
    ],
)
def test_mistakes_on_the_command_line(arguments: list[str], expected: list[str]) -> None:
    text = message(*arguments)
    assert all(part in text for part in expected), text
    assert len(text.splitlines()) < 12


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("algin: {steps: 3}", ["'algin'", "align"]),
        ("align: {stepz: 3}", ["'align.stepz'", "nearest valid key: align.steps"]),
        ("align: {steps: many}", ["align.steps: found 'many', wanted int"]),
        ("align: {steps: true}", ["align.steps", "wanted int"]),
        ("align: 3", ["align: found 3", "a section with steps"]),
        ("align:", ["align: found None"]),
        ("[1, 2]", ["the file: found [1, 2]"]),
        ("align: [", ["not valid YAML"]),
    ],
)
def test_mistakes_in_a_file_name_the_file(tmp_path: Path, content: str, expected: list[str]) -> None:
    path = yaml_file(tmp_path, content)
    text = message("--config", path)
    assert all(part in text for part in [*expected, path]), text


def test_a_setting_another_command_reads_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"--align.steps is not used by this command"):
        read_run_config("eval", ["--align.steps", "3"], COMMANDS["eval"].sections, {})


def test_own_arguments_of_a_command() -> None:
    _, own = read_run_config("train", ["my.zarr", "--seed", "3"], ALL, {"store": "a store", "--json": "a file"})
    assert own == {"store": "my.zarr", "json": None}


def test_every_command_names_existing_sections() -> None:
    top = {key.partition(".")[0] for key in setting_types()}
    assert set(expand([*ALL, "probe"])) == top
    assert all(set(expand(command.sections)) <= top for command in COMMANDS.values())


def test_nearest_keys_prefers_the_same_last_word() -> None:
    assert nearest_keys("alig.step", setting_types())[0] == "align.steps"
    assert nearest_keys("eval.sute", setting_types())[0] == "eval.suite"


def test_find_preset_prefers_a_file_of_the_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert find_preset("demo") == PRESETS / "demo.yaml"
    (tmp_path / "demo").write_text("seed: 4")
    assert find_preset("demo") == Path("demo")


def test_written_sections_read_back_and_leave_others_alone(tmp_path: Path) -> None:
    path = tmp_path / "run" / "config.yaml"
    write_sections(read("--collect.episodes", "5", "--seed", "7"), ("collect", "seed"), path)
    write_sections(read("--align.steps", "3", "--eval.control_episodes", "2"), ("align", "eval"), path)
    assert set(yaml.safe_load(path.read_text())) == {"collect", "seed", "align", "eval"}
    expected = read("--collect.episodes", "5", "--seed", "7", "--align.steps", "3", "--eval.control_episodes", "2")
    assert read("--config", str(path)) == expected


def test_exit_status_and_message_without_traceback(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["train", "--algn.steps", "3"]) == 2
    assert "align.steps" in capsys.readouterr().err
    assert main(["trian"]) == 2
    assert "deixis train" in capsys.readouterr().err
    assert main(["data"]) == 0
    assert main(["data", "chek"]) == 2
    assert main(["bench", "no-such-benchmark"]) == 2
    assert main(["--version"]) == 0
    assert main([]) == 0


@pytest.mark.parametrize(
    ("command", "maker"),
    [("data check", "collect"), ("train", "collect"), ("eval", "train"), ("report", "eval")],
)
def test_a_step_without_its_input_says_which_command_makes_it(
    command: str, maker: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main([*command.split(), "--out", str(tmp_path / "run")]) == 1
    assert f"`deixis {maker}` makes it" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_steps_never_replace_what_is_there_unasked(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    store = tmp_path / "demonstrations.zarr"
    store.mkdir()
    for command in ("demo", "collect"):
        assert main([command, "--out", str(tmp_path)]) == 1
        assert "--overwrite true" in capsys.readouterr().err
    assert store.is_dir()


def test_only_errors_raised_by_deixis_itself_lose_their_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    arguments = ["report", "--out", str(tmp_path)]
    monkeypatch.setattr(run_steps, "report", lambda config, *_: Record.read(config.out + "/none.json"))
    assert main(arguments) == 1
    assert str(tmp_path) in capsys.readouterr().err
    monkeypatch.setattr(run_steps, "report", lambda config, *_: int(config.out))
    with pytest.raises(ValueError, match="invalid literal"):
        main(arguments)
