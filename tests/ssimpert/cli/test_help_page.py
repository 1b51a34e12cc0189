"""``--help``: quick, complete, and the same words as the commands' own docstrings."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from ssimpert.cli.app import COMMANDS
from ssimpert.cli.command_group import CommandEntry
from ssimpert.cli.study import COMMANDS as STUDY_COMMANDS
from tests.ssimpert.cli.small_model import Command

# How the pages of studies call their arguments.
STUDY_ARGUMENTS = {
    "file": "FILE",
    "folder": "FOLDER",
    "target": "TARGET",
    "sources": "SHARD",
    "first": "A ",
    "second": "B ",
}

# What costs tenths of a second, or seconds: nothing of this is needed to print a page of help.
NOT_FOR_HELP = (
    "PIL",
    "cv2",
    "cvxpy",
    "matplotlib",
    "numba",
    "numpy",
    "onnxruntime",
    "pandas",
    "pyarrow",
    "pygments",
    "rich",
    "scipy",
    "skimage",
    "solvers",
    "timm",
    "torch",
    "torchvision",
)
# What typer needs for options, and for no list of commands.
NOT_FOR_THE_LIST = (
    "pydantic",
    "ssimpert.cli.constraint_options",
    "ssimpert.cli.engine_options",
    "ssimpert.cli.listings",
    "ssimpert.cli.doctor",
)
NOT_FOR_A_COMMAND = ("ssimpert.data", "ssimpert.perturbation", "ssimpert.cli.workspace", "ssimpert.cli.perturb_run")


def test_help_imports_nothing_that_only_work_needs() -> None:
    # One process: the list of commands first, since every command imports more.
    code = (
        "import contextlib, io, json, sys\n"
        "from ssimpert import cli\n"
        "def shown(*words):\n"
        "    sys.argv = ['ssimpert', *words]\n"
        "    with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()) as page:\n"
        "        cli.main()\n"
        "    assert 'Usage: ssimpert' in page.getvalue()\n"
        "    return sorted(sys.modules)\n"
        "print(json.dumps([shown('--help'), [shown(name, '--help') for name in ('perturb', 'minimal', 'compare', "
        "'models', 'doctor')][-1]]))"
    )
    printed = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    of_list, of_commands = (set(modules) for modules in json.loads(printed))
    assert not of_list & {*NOT_FOR_HELP, *NOT_FOR_THE_LIST, *NOT_FOR_A_COMMAND}
    assert not of_commands & {*NOT_FOR_HELP, *NOT_FOR_A_COMMAND}


def test_a_missing_file_of_weights_and_wrong_usage_are_refused_before_torch_is_loaded() -> None:
    code = (
        "import contextlib, io, sys\n"
        "from ssimpert import cli\n"
        "for words in (['--weights', '/no/such.pth'], ['--support', 'x', '--steps', 'abc'], ['-x.png']):\n"
        "    sys.argv = ['ssimpert', 'perturb', 'chelsea', *words]\n"
        "    with contextlib.suppress(SystemExit), contextlib.redirect_stderr(io.StringIO()) as said:\n"
        "        cli.main()\n"
        "    assert said.getvalue()\n"
        "assert not {'torch', 'solvers', 'numpy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(("name", "entry"), [*COMMANDS.items(), *STUDY_COMMANDS.items()])
def test_the_list_has_the_first_sentence_of_each_command(name: str, entry: CommandEntry) -> None:
    loaded = entry.load(name)
    function = loaded.registered_callback.callback if isinstance(loaded, typer.Typer) else loaded
    text = " ".join((inspect.getdoc(function) or "").split())
    assert text.startswith(entry.summary)
    assert entry.summary.endswith(".")
    assert ". " not in entry.summary


def test_the_page_of_a_command_has_every_option_under_its_heading_and_breaks_no_word(command: Command) -> None:
    code, page, _ = command("compare", "--help")
    assert code == 0
    sections = {block.split(":\n")[0]: block for block in page.split("\n\n") if ":\n" in block}
    assert list(sections) == [
        "Arguments",
        "Photos",
        "Model",
        "Constraint set",
        "Engine",
        "Solver",
        "Objects",
        "Options",
    ]
    for option, heading in {"--strict": "Photos", "--radius": "Constraint set", "--steps": "Engine"}.items():
        assert f"\n  {option} " in sections[heading]
    assert max(map(len, page.splitlines())) <= 100
    # "perceptual-ball-constrained" and "--until-success" stay whole.
    assert not [line for line in page.splitlines() if line.endswith("-")]


def test_every_option_of_the_signature_is_on_the_page(command: Command) -> None:
    commands = {(name,): entry for name, entry in COMMANDS.items() if name != "study"}
    commands |= {("study", name): entry for name, entry in STUDY_COMMANDS.items()}
    for words, entry in commands.items():
        _, page, _ = command(*words, "--help")
        name = words[-1]
        for parameter in inspect.signature(entry.load(name)).parameters:
            others = {"redo": "--force", "every": "--all", "output": "-o, --output", "as_json": "--json"}
            renamed = others.get(parameter, f"--{parameter.replace('_', '-')}")
            places = (renamed, parameter, STUDY_ARGUMENTS.get(parameter, parameter))
            assert any(f"\n  {place}" in page for place in places), (name, parameter)


@pytest.mark.parametrize("name", ["-x.png", "--x.png"])
def test_a_photo_whose_name_begins_with_a_dash_is_told_how_to_be_named(
    command: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str
) -> None:
    (tmp_path / name).write_bytes(b"")
    monkeypatch.chdir(tmp_path)
    code, _, err = command("perturb", name)
    assert code == 2
    assert f"goes after --, or is ./{name}" in err


def test_an_option_that_does_not_exist_is_no_photo(command: Command) -> None:
    code, _, err = command("perturb", "chelsea", "--step", "3")
    assert code == 2
    assert "--steps" in err
    assert "begins with a dash" not in err


def test_a_command_that_does_not_exist_names_the_near_ones(command: Command) -> None:
    code, _, err = command("pertub")
    assert code == 2
    assert "Did you mean 'perturb'?" in err


def test_the_value_of_a_choice_is_named_with_the_choices(command: Command) -> None:
    code, _, err = command("perturb", "chelsea", "--constraint", "l7")
    assert code == 2
    assert "Invalid value for '--constraint': 'l7' is not one of 'global-ssim', " in err
