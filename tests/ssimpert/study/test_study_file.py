"""Study files: read with the line of every error, written so that they are read back."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ssimpert.errors import InputError
from ssimpert.study import StudyFileError, cells, read_study, write_study
from ssimpert.study.sections import formulation
from ssimpert.study.sections.analysis import AnalysisSection
from ssimpert.study.sections.attack import AttackSection
from ssimpert.study.sections.model import ModelSection
from ssimpert.study.sections.output import OutputSection
from ssimpert.study.sections.section import keys_of
from ssimpert.study.template import study_template

TEXT = """\
# A comment with [brackets] and "quotes
[study]
name = "formulations"
seed = 3

[[data]]
kind = "composites"
n = 24

[[model]]
name = "efficientnet-lite0"

[[formulation]]
name = "windows"
constraint = "window-ssim"
window = { size = 7, stride = 1, border = "full" }
# A comment between keys.
threshold = [
    0.99, # the first
    "19/20",
]

[[formulation]]
name = "released"
constraint = "global-ssim"
distance = 0.005
engine = "recentred"
faithful = true

[[attack]]
name = "ddn"
passes = [200, 1000]

[analysis]
maps = ["rms"]
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "study.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_file_is_read_as_it_says(tmp_path: Path) -> None:
    study = read_study(write(tmp_path, TEXT))
    assert (study.name, study.seed, study.repeats) == ("formulations", 3, 1)
    assert dict(study.data[0].options) == {"n": 24}
    windows, released = study.formulations
    assert windows.levels == (0.99, 0.95)
    assert windows.window == {"size": 7, "stride": 1, "border": "full"}
    assert (released.faithful, released.engine_name) == (True, "recentred")
    assert study.attacks[0].grid_passes == (200, 1000)
    assert study.analysis.maps == ("rms",)


@pytest.mark.parametrize(
    ("old", "new", "line", "message"),
    [
        ('n = 24', 'm = 24', 8, "'m' does not belong to data of kind 'composites'"),
        ('kind = "composites"', 'kind = "composits"', 7, "did you mean 'composites'"),
        ('name = "efficientnet-lite0"', 'nam = "x"', 11, "unknown key 'nam'; did you mean 'name'"),
        ('constraint = "window-ssim"', 'constraint = "window"', 15, "did you mean 'window-ssim'"),
        ('"19/20",', '1.5,', 18, "1.5"),
        ('border = "full"', 'border = "ful"', 16, "did you mean 'full'"),
        ('stride = 1,', 'strid = 1,', 16, "did you mean 'stride'"),
        ('faithful = true', 'faithfull = true', 28, "did you mean 'faithful'"),
        ('engine = "recentred"', 'engine = "recentered"', 27, "did you mean 'recentred'"),
        ('name = "released"', 'name = "windows"', 24, "two sections are called 'windows'"),
        ('passes = [200, 1000]', 'passes = [200, 0]', 32, "passes must be an integer of at least 1"),
        ('passes = [200, 1000]', '', 30, "the key 'passes' is missing"),
        ('maps = ["rms"]', 'maps = ["rms", "smim"]', 35, "did you mean 'ssim'"),
        ('[analysis]', '[analyses]', 34, "unknown section 'analyses'; did you mean 'analysis'"),
        ('[[attack]]', '[attack]', 30, r"write \[\[attack\]\]"),
        ('seed = 3', 'sead = 3', 4, "unknown key 'sead'; did you mean 'seed'"),
        ('seed = 3', 'seed = -3', 4, "seed must be an integer from 0"),
        ('name = "formulations"', '', 2, "the key 'name' is missing"),
        ('seed = 3', 'seed = = 3', 4, "no valid TOML"),
        ('seed = 3', 'name = "again"', 4, "no valid TOML"),
    ],
)  # fmt: skip
def test_an_error_names_file_line_and_the_nearest_valid_value(
    old: str, new: str, line: int, message: str, tmp_path: Path
) -> None:
    assert old in TEXT
    path = write(tmp_path, TEXT.replace(old, new, 1))
    with pytest.raises(StudyFileError, match=message) as caught:
        read_study(path)
    assert caught.value.line == line
    assert str(caught.value).startswith(f"{path}, line {line}: ")


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"missing\.toml: there is no such file; `ssimpert study init` writes one"):
        read_study(tmp_path / "missing.toml")
    with pytest.raises(InputError, match="can't be read"):
        read_study(tmp_path)
    binary = tmp_path / "binary.toml"
    binary.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="no text in UTF-8"):
        read_study(binary)


def test_paths_are_relative_to_the_file_and_hold_wherever_the_process_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "photos").mkdir()
    text = TEXT.replace('kind = "composites"\nn = 24', 'kind = "folder"\npath = "photos"')
    text = text.replace('name = "efficientnet-lite0"', 'name = "timm:resnet18"\nweights = "w.pth"\nlabels = "l.txt"')
    path = write(tmp_path, text)
    monkeypatch.chdir("/")
    study = read_study(path)
    assert study.data[0].options["path"] == str(tmp_path / "photos")
    assert (study.models[0].weights, study.models[0].labels) == (str(tmp_path / "w.pth"), str(tmp_path / "l.txt"))
    random = read_study(write(tmp_path, text.replace('"w.pth"', '"random"')))
    assert random.models[0].weights == "random"


EVERYTHING = """
[study]
name = 'a "name" \\ with signs: \u00e9 \u007e'
seed = 9223372036854775807
repeats = 2
[[data]]
kind = "composites"
name = "shapes"
n = 3
objects = ["coffee", "camera"]
[[model]]
name = "timm:resnet18"
weights = "random"
alias = "r18"
labels = ["a", "b"]
input_size = 64
[[formulation]]
name = "ball"
constraint = "perceptual-ball"
gamma = [1e4, 0.1]
layers = "none"
wanted_margin = 15
target = "soup bowl"
lower_gamma = false
[[formulation]]
name = "mean"
constraint = "mean-ssim"
threshold = 0.1
window = { size = 7, sigma = "none" }
luminance = "none"
budget = "minimal"
margin = "least-likely"
margin_by = 1e-7
[[formulation]]
name = "features"
constraint = "feature-ball"
layers = ["layer1", "layer2"]
l2_radius = "none"
eps_rel = 1e-5
[[attack]]
name = "l2-pgd"
passes = 10
radius = [0.1, 1e-3]
[analysis]
metrics = []
[out]
arrays = "delta"
"""


@pytest.mark.parametrize("text", [TEXT, EVERYTHING, study_template()])
def test_what_is_written_is_read_back_as_the_same_study(text: str, tmp_path: Path) -> None:
    study = read_study(write(tmp_path, text))
    written = write_study(study)
    assert read_study(write(tmp_path, written)) == study
    assert write_study(read_study(write(tmp_path, written))) == written


def test_the_template_is_a_study_and_explains_every_key(tmp_path: Path) -> None:
    template = study_template('a "study"', "my.toml")
    study = read_study(write(tmp_path, template))
    assert study.name == 'a "study"'
    assert len(study.formulations) == 3
    keys = set(re.findall(r"^(?:# )?(\w+) = ", template, re.MULTILINE))
    for section in (formulation.FormulationSection, ModelSection, AttackSection, AnalysisSection, OutputSection):
        missing = set(keys_of(section)) - keys
        assert missing <= {"l2_radius"}, section.section  # l2_radius stands in the text beside feature-ball
    assert "l2_radius" in template


def test_every_line_that_the_template_offers_is_valid_where_it_stands(tmp_path: Path) -> None:
    lines = study_template().splitlines()
    # Whole sections that are commented out are tried as a whole; a key in a section that is there, by itself.
    in_section, offered = False, []
    for number, line in enumerate(lines):
        if line.startswith("["):
            in_section = True
        elif line.startswith("# [["):
            in_section = False
        elif in_section and re.match(r"# \w+ = ", line):
            offered.append(number)
    assert len(offered) > 20
    for number in offered:
        changed = [*lines]
        changed[number] = changed[number].removeprefix("# ")
        read_study(write(tmp_path, "\n".join(changed)))
    starts = [number for number, line in enumerate(lines) if line.startswith("# [[")]
    assert len(starts) == 3
    for start in starts:
        changed = [*lines]
        for number in range(start, len(lines)):
            if not lines[number].startswith("# "):
                break
            is_radius_of_other_attack = lines[number].startswith("# radius") and "l2-pgd" in lines[number]
            changed[number] = lines[number] if is_radius_of_other_attack else lines[number].removeprefix("# ")
        read_study(write(tmp_path, "\n".join(changed)))


def test_a_list_of_engines_stands_for_a_formulation_each(tmp_path: Path) -> None:
    path = tmp_path / "study.toml"
    head = '[study]\nname = "s"\n[[data]]\nkind = "samples"\n[[model]]\nname = "efficientnet-lite0"\n'
    engines = '["projected_gradient", "frank_wolfe"]'
    grid = f'[[formulation]]\nname = "l2"\nconstraint = "l2"\nradius = [0.5, 1]\nengine = {engines}\n'
    path.write_text(head + grid)
    made = read_study(path)
    assert [(entry.name, entry.engine) for entry in made.formulations] == [
        ("l2, projected_gradient", "projected_gradient"),
        ("l2, frank_wolfe", "frank_wolfe"),
    ]
    assert len(cells(made)) == 4
    again = tmp_path / "again.toml"
    again.write_text(write_study(made))
    assert read_study(again) == made
    # The line of an error is that of the section in the file, however many formulations stood before.
    wrong = '[[formulation]]\nname = "x"\nconstraint = "linf"\nradius = "wide"\n'
    path.write_text(head + grid + wrong)
    with pytest.raises(StudyFileError, match=r"line 15.*'wide'"):
        read_study(path)
    path.write_text(head + grid.replace('"frank_wolfe"', '"frankwolfe"'))
    with pytest.raises(StudyFileError, match=r"line 11.*'frankwolfe'; did you mean 'frank_wolfe'"):
        read_study(path)
    path.write_text(head + grid.replace(engines, "[]"))
    with pytest.raises(StudyFileError, match=r"line 11.*engine must be one of"):
        read_study(path)
