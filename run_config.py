"""The configuration of a run, read from a YAML preset and from dotted command-line overrides.

`RunConfig` says what can be set; `read_run_config` reads it. A key that does not exist or a value of the wrong type is
a `ConfigError` that names the key, where it stands and the nearest valid key.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Any, get_origin, get_type_hints

import jsonargparse
import yaml

from .envs.config import CollectConfig
from .eval.config import EvalConfig, WatchConfig
from .eval.probe.config import ProbeConfig
from .policies.config import TrainConfig, to_dict

PRESETS = Path(__file__).parent / "configs"
SEVERAL = ("runs", "checkpoints")  # a command's own arguments of which there may be several, a list


@dataclass(frozen=True)
class RunConfig(TrainConfig):
    """A whole run: demonstrations, training (the fields of `TrainConfig`) and evaluation, kept in one folder.

    Attributes:
        collect: demonstrations from the expert.
        eval: evaluation of the policy in closed loop.
        watch: evaluation while training goes on.
        probe: check of a frozen backbone.
        out: folder of the run; every step reads from it and writes to it.
    """

    collect: CollectConfig = field(default_factory=CollectConfig)
    eval: EvalConfig = field(default_factory=EvalConfig)
    watch: WatchConfig = field(default_factory=WatchConfig)
    probe: ProbeConfig = field(default_factory=ProbeConfig)
    out: str = "runs/demo"

    def training(self) -> TrainConfig:
        """The part that training reads."""
        return TrainConfig(**{item.name: getattr(self, item.name) for item in fields(TrainConfig)})


def expand(sections: Collection[str]) -> list[str]:
    """Names of top-level fields, with "train" replaced by every field of `TrainConfig`."""
    training = [item.name for item in fields(TrainConfig)]
    return [name for section in sections for name in (training if section == "train" else [section])]


class ConfigError(Exception):
    """A configuration that cannot be read; the message fits on one screen and says what to change."""


def setting_types(config: type = RunConfig, prefix: str = "") -> dict[str, Any]:
    """Every dotted key a user may set -> its annotated type, e.g. "align.steps" -> int."""
    hints = get_type_hints(config)
    types: dict[str, Any] = {}
    for item in fields(config):
        kind, key = hints[item.name], prefix + item.name
        types |= setting_types(kind, key + ".") if is_dataclass(kind) and isinstance(kind, type) else {key: kind}
    return types


def nearest_keys(key: str, valid: Collection[str], count: int = 3) -> list[str]:
    """The valid keys most like `key`, best first; a bare last part such as "steps" finds every key that ends in it."""
    same_end = [name for name in valid if name.rpartition(".")[2] == key.rpartition(".")[2]]
    alike = (
        get_close_matches(key, same_end, count, cutoff=0.3)
        + same_end
        + get_close_matches(key, valid, count, cutoff=0.6)
    )
    ends = {name.rpartition(".")[2]: name for name in valid}
    alike += [ends[end] for end in get_close_matches(key.rpartition(".")[2], ends, count, cutoff=0.6)]
    return list(dict.fromkeys(alike))[:count]


def find_preset(name: str) -> Path:
    """The YAML file that `name` means: a path, or the bare name of a file in deixis' own `configs/`.

    Raises:
        ConfigError: there is no such file; the message lists the presets.
    """
    for path in (Path(name), PRESETS / f"{name}.yaml"):
        if path.is_file():
            return path
    presets = sorted(path.stem for path in PRESETS.glob("*.yaml"))
    near = get_close_matches(name, presets, 1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    raise ConfigError(
        f"no configuration {name!r}\n  {hint}presets: {', '.join(presets)}; or give the path of a YAML file"
    )


def read_run_config(
    command: str,
    arguments: Sequence[str],
    sections: Collection[str],
    options: Mapping[str, str],
    switches: Mapping[str, str] | None = None,
) -> tuple[RunConfig, dict[str, Any]]:
    """Read `arguments` (what follows the command's name) into a configuration and the command's own options.

    Overrides on the command line win over `--config FILE` wherever they stand; what neither sets has its default.

    Args:
        command: name of the command, for messages and help.
        arguments: what the user typed.
        sections: top-level fields of `RunConfig` that this command reads ("train" for all those of training); others
            are refused on the command line.
        options: the command's own arguments -> help; one without dashes is positional and may be left out.
        switches: the command's own arguments without a value -> help.

    Raises:
        ConfigError: an unknown key, a value of the wrong type, a missing file.
        SystemExit: `--help` was asked for and printed.
    """
    sections = expand(sections)
    if {"-h", "--help"} & set(arguments):
        skip = {item.name for item in fields(RunConfig)} - set(sections)
        _make_parser(command, options, switches or {}, skip).print_help()
        raise SystemExit(0)
    preset, overrides = _split_preset(arguments)
    switches = switches or {}
    _check_flags(overrides, sections, [*options, *switches])
    parser = _parser(command, tuple(options.items()), tuple(switches.items()))
    path = None if preset is None else find_preset(preset)
    from_file = [] if path is None else ["--config", str(path)]
    if path is not None:
        _check_file(path)
    try:
        parsed = _parse(parser, [*from_file, *overrides], "on the command line")
    except ConfigError:
        _parse(parser, from_file, f"in {path}")  # raises where the file alone is to blame
        raise
    own = {option.lstrip("-"): parsed.pop(option.lstrip("-")) for option in (*options, *switches)}
    parsed.pop("config")
    try:
        config = RunConfig(**vars(parser.instantiate(parsed)))
    except ValueError as error:  # a value of the right type that its dataclass refuses
        raise ConfigError(str(error)) from error
    return config, own


def write_sections(config: RunConfig, sections: Collection[str], path: Path) -> None:
    """Write these sections of `config` to a YAML file that `--config` reads; sections written by other steps stay."""
    values = to_dict(config)
    written = written_sections(path) | {name: values[name] for name in values if name in sections}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(written, sort_keys=False, allow_unicode=True), "utf-8")


def written_sections(path: Path) -> dict[str, Any]:
    """What `write_sections` has written to a file so far; nothing where there is no file."""
    return (yaml.safe_load(path.read_text("utf-8")) or {}) if path.is_file() else {}


@cache
def _parser(
    command: str, options: tuple[tuple[str, str], ...], switches: tuple[tuple[str, str], ...]
) -> jsonargparse.ArgumentParser:
    """The parser of a command, made once: a study reads a configuration for every variant."""
    return _make_parser(command, dict(options), dict(switches))


def _make_parser(
    command: str, options: Mapping[str, str], switches: Mapping[str, str], skip: Collection[str] = ()
) -> jsonargparse.ArgumentParser:
    parser = jsonargparse.ArgumentParser(prog=f"deixis {command}", exit_on_error=False, print_config=None)
    named = {option: f"{option[:-1].upper()} ..." if option in SEVERAL else option.upper() for option in options}
    positional = "".join(f" [{named[option]}]" for option in options if not option.startswith("-"))
    parser.usage = f"deixis {command}{positional} [--config FILE] [--KEY VALUE ...]"
    for option, text in options.items():
        shape: dict[str, Any] = (
            {"metavar": "FILE"}
            if option.startswith("-")
            else {"nargs": "*" if option in SEVERAL else "?", "metavar": option.upper()}
        )
        parser.add_argument(option, help=text, type=str, default=None, **shape)
    for switch, text in switches.items():
        parser.add_argument(switch, help=text, action="store_true")
    parser.add_argument(
        "--config",
        action="config",
        metavar="FILE",
        help="YAML file, or the name of a preset such as 'demo'",
    )
    parser.add_class_arguments(RunConfig, skip=set(skip))
    keys = setting_types()
    for action in parser._actions:
        if any(
            key.startswith(f"{action.dest}.") for key in keys
        ):  # whole sections: a file of one section is no second way
            action.help = argparse.SUPPRESS
    return parser


def _split_preset(arguments: Sequence[str]) -> tuple[str | None, list[str]]:
    """Take `--config FILE` out of the arguments."""
    preset, rest, remaining = None, [], iter(arguments)
    for argument in remaining:
        if argument != "--config" and not argument.startswith("--config="):
            rest.append(argument)
            continue
        if preset is not None:
            raise ConfigError("--config is given twice\n  one file describes a run: join them")
        preset = argument.partition("=")[2] if "=" in argument else next(remaining, None)
        if not preset:
            raise ConfigError("--config needs the name of a preset or of a YAML file")
    return preset, rest


def _check_flags(arguments: Sequence[str], sections: Collection[str], options: Collection[str]) -> None:
    keys = setting_types()
    own = [option.removeprefix("--") for option in options if option.startswith("--")]
    usable = [key for key in keys if key.partition(".")[0] in sections]
    for argument in arguments:
        key = argument.removeprefix("--").partition("=")[0]
        if not argument.startswith("--") or key in own:
            continue
        if not _is_setting(key, keys):
            raise _unknown_key(key, "on the command line", usable + own)
        if not _is_setting(key, {name: keys[name] for name in usable}):
            raise ConfigError(f"--{key} is not used by this command\n  sections it reads: {', '.join(sections)}")


def _check_file(path: Path) -> None:
    """Every key of a YAML file must be a setting."""
    try:
        values = yaml.safe_load(path.read_text("utf-8"))
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is not valid YAML\n  {error}") from error
    _check_mapping(values if values is not None else {}, "", f"in {path}", setting_types())


def _check_mapping(values: Any, section: str, where: str, keys: Mapping[str, Any]) -> None:
    if not isinstance(values, Mapping):
        inside = [key.removeprefix(f"{section}.") for key in keys if key.startswith(f"{section}.")]
        wanted = f"a section with {', '.join(inside)}" if section else "sections such as 'align:' and 'eval:'"
        raise ConfigError(f"{section or 'the file'}: found {values!r}, wanted {wanted}\n  {where}")
    for name, value in values.items():
        key = f"{section}.{name}" if section else str(name)
        if any(valid.startswith(f"{key}.") for valid in keys):
            _check_mapping(value, key, where, keys)
        elif key not in keys:
            raise _unknown_key(key, where, keys)


def _is_setting(key: str, keys: Mapping[str, Any]) -> bool:
    """Whether `key` is a setting or one entry of a setting that is a dictionary ("align.trainable.image")."""
    return key in keys or get_origin(keys.get(key.rpartition(".")[0])) is dict


def _unknown_key(key: str, where: str, valid: Collection[str]) -> ConfigError:
    near = nearest_keys(key, valid)
    hint = (
        f"nearest valid key: {near[0]}"
        if near
        else f"valid keys begin with: {', '.join(sorted({k.split('.')[0] for k in valid}))}"
    )
    others = f" (or {', '.join(near[1:])})" if near[1:] else ""
    return ConfigError(f"unknown key {key!r}\n  {where}\n  {hint}{others}")


def _parse(parser: jsonargparse.ArgumentParser, arguments: list[str], where: str) -> jsonargparse.Namespace:
    try:
        return parser.parse_args(arguments)
    except (argparse.ArgumentError, jsonargparse.ArgumentError, ValueError) as error:
        text = str(error)
        named = re.search(r'key "([\w.]+)"', text)
        key = named.group(1) if named else None
        kind = setting_types().get(key) if key else None
        if kind is None:
            raise ConfigError(f"{text}\n  {where}") from error
        value = re.search(r"Got value: (.*)|Given value: (.*)", text)
        found = next(filter(None, value.groups()), "") if value else None
        hint = '\n  YAML takes an unquoted null for nothing: write "null" in quotes' if found == "None" else ""
        said = "" if found is None else f"found {found!r}, "
        raise ConfigError(f"{key}: {said}wanted {_type_name(kind)}\n  {where}{hint}") from error


def _type_name(kind: Any) -> str:
    return kind.__name__ if isinstance(kind, type) and get_origin(kind) is None else str(kind).replace("typing.", "")
