"""The lines of keys in TOML, beside headings, strings, brackets and comments of every kind."""

from __future__ import annotations

from ssimpert.study.toml_lines import key_lines, line_of

TEXT = '''\ufeff# first = 1
dotted.key = 2  # line 2
[study]   # [[not.a.section]]
"quoted key" = 4
'literal' = \'\'\'
[not] = a section
\'\'\'
multi = """
[[formulation]]
text with \\""" escaped
""""
after = 12
lists = [
  { a = 1, b = "]" }, # ]
  [2],
]
last = 17

[[formulation]]
name = "first"
window.size = 21
[formulation.extra]
inner = 23
[[formulation]]
name = "second" # no newline at the end
  indented   =   26'''


def test_every_key_has_its_line() -> None:
    lines = key_lines(TEXT)
    assert lines[("dotted", 0, "key")] == 2
    assert lines[("study", 0, None)] == 3
    expected = {"quoted key": 4, "literal": 5, "multi": 8, "after": 12, "lists": 13, "last": 17}
    assert {key: line for (section, _, key), line in lines.items() if section == "study" and key} == expected
    assert lines[("formulation", 0, None)] == 19
    assert lines[("formulation", 0, "name")] == 20
    assert lines[("formulation", 0, "window")] == 21
    assert lines[("formulation", 0, "extra")] == 22
    assert lines[("formulation", 1, None)] == 24
    assert lines[("formulation", 1, "name")] == 25
    assert lines[("formulation", 1, "indented")] == 26
    assert not {("not", 0, None), ("formulation", 2, None)} & set(lines)


def test_what_is_missing_has_the_line_of_its_heading() -> None:
    assert line_of(TEXT, "formulation", 1, "absent") == 24
    assert line_of(TEXT, "formulation", 7, "absent") == 19
    assert line_of(TEXT, "absent") == 1
    assert line_of(TEXT, None) == 1
    assert key_lines("") == {}
    assert key_lines("a = 1 # end") == {("a", 0, None): 1}
