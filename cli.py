"""The command line, `deixis COMMAND`: what the commands are called, what each may set, and how it answers mistakes.

Nothing heavy is imported before a command runs, so that `deixis --help` answers at once.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from . import __version__
from .data_commands import SUMMARIES as DATA_COMMANDS
from .eval.refusal import is_refusal

if TYPE_CHECKING:
    from .run_config import RunConfig


@dataclass(frozen=True)
class Command:
    """What a command does and takes.

    Attributes:
        summary: one line for the overview.
        sections: top-level fields of `RunConfig` that the command reads ("train" for all those of training); none when
            it reads no configuration.
        options: its own arguments -> help; one without dashes is positional and may be left out.
        switches: its own arguments without a value -> help.
    """

    summary: str
    sections: tuple[str, ...] = ()
    options: Mapping[str, str] = field(default_factory=dict)
    switches: Mapping[str, str] = field(default_factory=dict)


RECORD_OPTION = {"--json": "also write the record of the result to FILE, named after the file"}

COMMANDS = {
    "demo": Command(
        "all of a run in one go: collect, data check, train, eval, report",
        ("collect", "train", "watch", "eval", "out"),
        RECORD_OPTION,
    ),
    "collect": Command(
        "record demonstrations of the expert, or go on with those that were begun",
        ("collect", "seed", "out", "overwrite"),
        {"--suite": "whose tasks to demonstrate; the same as --collect.suite"},
    ),
    "data check": Command(
        "check the timestamps, values and content of a trajectory store",
        ("out",),
        {
            "store": "folder of the store; left out, the run's demonstrations",
            "--json": "write the report to FILE",
            "--page": "write a page of plots to FILE",
            "--fix": "write what is sound, repaired without inventing data, to a new store FILE",
        },
    ),
    **{name: Command(summary) for name, summary in DATA_COMMANDS.items()},
    "train": Command(
        "align vision and language, then learn to act from demonstrations",
        ("train", "watch", "out"),
        {"store": "folder of the store to learn from; left out, the run's demonstrations"},
    ),
    "eval": Command(
        "measure success in closed loop, with controls",
        ("eval", "out"),
        {
            "checkpoint": "folder of a policy; left out, the run's policy",
            "--against": "folder of another policy: both run the same episodes, until it is sure which is better",
            "--chains": "run so many chains of five instructions without a reset, in place of episodes",
            "--attribute": "find the stage that made so many of the run's failed episodes fail",
            "--plan": "print how many episodes show a difference of success rates, such as 0.1; runs nothing",
            **RECORD_OPTION,
        },
        {
            "--collapse": "replace image, words and proprioception, one at a time, and report what the policy ignores",
            "--alignment": "retrieval, classification and questions on scenes never seen, in place of episodes",
        },
    ),
    "probe": Command(
        "check whether a frozen backbone is worth building on, of policies or of transformers' models",
        ("probe", "out"),
        {
            "checkpoints": "folders of policies or of transformers' models, or names on the hub, each with +random or "
            "+noise0.3 to change its weights; left out, the run's policy",
            "--store": "folder of the store whose frames are shown; left out, the run's demonstrations",
            "--page": "write the page to FILE; left out, probe.html in the run's folder",
            **RECORD_OPTION,
        },
    ),
    "diagnose": Command(
        "find out why a policy fails: from the recordings up, and the first step that breaks",
        options={
            "run": "folder of the run; left out, runs/demo",
            "--store": "folder of the store that the policy learned from; left out, the run's demonstrations",
            "--episodes": "how many at each step (default: 20)",
            "--json": "also write what was found to FILE",
        },
    ),
    "report": Command(
        "write a run's numbers, curves and videos, or several runs beside each other, as one HTML page",
        ("out",),
        {
            "runs": "folders of runs, the first being what the others are compared with; left out, the run in `--out`",
            "--page": "write the page to FILE; left out, to RUN/report.html, of several runs beside the first's folder",
        },
    ),
    "study": Command(
        "train and judge several variants alike, and write the record of all",
        options={
            "name": "the study; left out, they are listed",
            "--variants": "only these, with commas between them",
            "--seeds": "only these, with commas between them",
            "--curves": "folder for the curves, as CSV; left out, the study's",
            **RECORD_OPTION,
        },
    ),
    "bench": Command(
        "run one benchmark and write its record",
        options={
            "name": "the benchmark; left out, they are listed",
            "--json": "write the record to FILE as well as to the screen",
            "--policy": "folder of the policy that `eval` runs; left out, a small one that nothing has trained",
        },
    ),
    "results": Command(
        "write the records in results/ into the tables of the documents",
        options={
            "documents": "Markdown files with tables; left out, README.md",
            "--folder": "the records' folder (default: results)",
        },
    ),
}

EXAMPLES = """\
examples:
  deixis demo --config demo                    # the preset configs/demo.yaml, into runs/demo
  deixis demo --config smoke --out runs/try    # another preset, another folder
  deixis train --policy.head.kind regression --align.steps 0 --overwrite true
  deixis COMMAND --help                        # everything a command can be given"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status: 0, 1 when it refused or failed, 2 when it was called wrongly."""
    typed = list(sys.argv[1:] if arguments is None else arguments)
    if not typed or typed[0] in ("-h", "--help"):
        print(overview())
        return 0
    if typed[0] == "--version":
        print(f"deixis {__version__}")
        return 0
    name = next((name for name in COMMANDS if name.split() == typed[: len(name.split())]), None)
    if name is None:
        return _unknown_command(typed)
    rest = typed[len(name.split()) :]
    run = _run_configured if COMMANDS[name].sections else _run_plain
    try:
        return run(name, rest, typed)
    except KeyboardInterrupt:
        print(f"\ndeixis {name}: stopped", file=sys.stderr)
        return 130


def overview() -> str:
    """The text of `deixis --help`."""
    width = max(map(len, COMMANDS)) + 2
    commands = "\n".join(f"  {name:{width}}{command.summary}" for name, command in COMMANDS.items())
    return (
        "usage: deixis COMMAND [--config FILE] [--KEY VALUE ...]\n\n"
        "Vision-language-action policies: trained on checked trajectories, judged by success in simulation.\n\n"
        f"commands:\n{commands}\n\n{EXAMPLES}"
    )


def _unknown_command(typed: list[str]) -> int:
    if typed[0] == "data":
        asked = len(typed) > 1 and typed[1] not in ("-h", "--help")
        known = [name for name in COMMANDS if name.startswith("data ")]
        usage = "\n".join(f"  deixis {name:14}{COMMANDS[name].summary}" for name in known)
        print(f"usage: one of\n{usage}", file=sys.stderr if asked else sys.stdout)
        return 2 if asked else 0
    near = get_close_matches(typed[0], COMMANDS, 1)
    hint = f"did you mean `deixis {near[0]}`?" if near else f"commands: {', '.join(COMMANDS)}"
    print(f"deixis: unknown command {typed[0]!r}\n  {hint}", file=sys.stderr)
    return 2


def _run_configured(name: str, rest: list[str], typed: list[str]) -> int:
    from .run_config import ConfigError, read_run_config

    command = COMMANDS[name]
    try:
        config, own = read_run_config(name, rest, command.sections, command.options, command.switches)
    except ConfigError as error:
        print(f"deixis {name}: {error}", file=sys.stderr)
        return 2
    from . import run_steps

    steps: dict[str, Callable[[], object]] = {
        "demo": lambda: run_steps.demo(config, typed, own["json"]),
        "collect": lambda: run_steps.collect(_of_suite(config, own["suite"])),
        "data check": lambda: run_steps.check(config, own["store"], own["json"], own["page"], own["fix"]),
        "train": lambda: run_steps.train(config, own["store"]),
        "eval": lambda: _evaluate(config, typed, own),
        "report": lambda: run_steps.report(config, own["runs"], own["page"]),
        "probe": lambda: run_steps.probe(config, typed, own["checkpoints"], own["store"], own["page"], own["json"]),
    }
    return _refusing(name, steps[name])


def _of_suite(config: RunConfig, suite: str | None) -> RunConfig:
    return config if suite is None else replace(config, collect=replace(config.collect, suite=suite))


def _evaluate(config: RunConfig, typed: list[str], own: Mapping[str, Any]) -> None:
    from . import run_steps

    steps: dict[str, Callable[[], object]] = {
        "collapse": lambda: run_steps.collapse(config, typed, own["checkpoint"], own["json"]),
        "alignment": lambda: run_steps.alignment(config, typed, own["checkpoint"], own["json"]),
        "against": lambda: run_steps.against(config, typed, own["checkpoint"], own["against"], own["json"]),
        "chains": lambda: run_steps.chains(config, typed, own["checkpoint"], own["chains"], own["json"]),
        "attribute": lambda: run_steps.attribute(config, typed, own["checkpoint"], own["attribute"], own["json"]),
        "plan": lambda: run_steps.plan(config, own["plan"]),
    }
    asked = [name for name in steps if own[name]]
    if len(asked) > 1:
        raise ValueError(f"found {' and '.join(f'--{name}' for name in asked)}, wanted one at a time")
    if asked:
        steps[asked[0]]()
    else:
        run_steps.evaluate(config, typed, own["checkpoint"], own["json"])


def _refusing(name: str, step: Callable[[], object]) -> int:
    """The exit status of a step: 0, or 1 where it refused, which is said."""
    try:
        step()
    except Exception as error:
        if not is_refusal(error):
            raise
        print(f"deixis {name}: {error}", file=sys.stderr)
        return 1
    return 0


def _run_plain(name: str, rest: list[str], typed: list[str]) -> int:
    if name in DATA_COMMANDS:
        from . import data_commands

        return data_commands.run(name, rest)
    import argparse

    parser = argparse.ArgumentParser(prog=f"deixis {name}", description=COMMANDS[name].summary, allow_abbrev=False)
    for option, text in COMMANDS[name].options.items():
        several = "*" if option == "documents" else "?"
        shape: dict[str, Any] = (
            {"metavar": option[2:].upper()} if option.startswith("-") else {"nargs": several, "metavar": option.upper()}
        )
        parser.add_argument(option, help=text, **shape)
    if name == "study":
        parser.epilog = "Settings that `deixis demo --help` shows can be given too, for all variants."
    try:
        given, settings = parser.parse_known_args(rest) if name == "study" else (parser.parse_args(rest), [])
    except SystemExit as stop:  # argparse has printed help or the mistake
        return int(stop.code or 0)
    if name == "study":
        return _study(given, settings, typed)
    if name == "diagnose":
        from . import run_steps

        return _refusing(name, lambda: run_steps.diagnose(given.run, given.store, given.episodes, given.json))
    from . import result_commands

    if name == "bench":
        return result_commands.bench(given.name, typed, given.json, given.policy)
    return result_commands.results(given.documents, given.folder)


def _study(given: Any, settings: Sequence[str], typed: Sequence[str]) -> int:
    from . import study
    from .run_config import ConfigError

    if given.name is None:
        print("\n".join(study.study_names()))
        return 0
    only, seeds = ([part for part in (text or "").split(",") if part] for text in (given.variants, given.seeds))
    command = shlex.join(["deixis", *typed])
    try:
        found = study.read_study(given.name)
        chosen = study.choose(found, only, seeds)
        return _refusing("study", lambda: study.run_study(found, chosen, settings, command, given.json, given.curves))
    except ConfigError as error:
        print(f"deixis study: {error}", file=sys.stderr)
        return 2
