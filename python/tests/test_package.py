"""The package as it is installed: the program, the stubs, the documents."""

import ast
import inspect
from pathlib import Path

import pytest

import r1seg
from conftest import program

PACKAGE = Path(r1seg.__file__).parent


def test_the_program_comes_along():
    assert program("--version").stdout.strip() == f"r1seg {r1seg.__version__}"
    refused = program("infer", "--image", "absent.nii.gz", "-m", "demo", "-p", "x", check=False)
    assert refused.returncode == 66 and "R-IN-01" in refused.stderr


def members(tree):
    """Names of a stub: functions, and classes with their own."""
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            yield (
                node.name,
                {n.name for n in node.body if isinstance(n, ast.FunctionDef)}
                | {n.target.id for n in node.body if isinstance(n, ast.AnnAssign)},
            )
        elif isinstance(node, ast.FunctionDef):
            yield node.name, node


def test_the_stubs_say_what_there_is():
    stubs = dict(members(ast.parse((PACKAGE / "_r1seg.pyi").read_text())))
    native = {name for name in dir(r1seg._r1seg) if not name.startswith("_")}
    assert native == set(stubs)
    for name in native:
        of = getattr(r1seg._r1seg, name)
        if inspect.isclass(of):
            public = {member for member in vars(of) if not member.startswith("__")}
            described = {member for member in stubs[name] if not member.startswith("__")}
            assert public == described, name
        else:
            arguments = stubs[name].args
            stubbed = [a.arg for a in arguments.args + arguments.kwonlyargs]
            assert list(inspect.signature(of).parameters) == stubbed, name
    for name in ("ask", "ask_many", "segment"):
        tree = ast.parse((PACKAGE / "_r1seg.pyi").read_text())
        (stub,) = (
            n
            for c in tree.body
            if getattr(c, "name", "") == "EncodedVolume"
            for n in c.body
            if getattr(n, "name", "") == name
        )
        stubbed = [a.arg for a in stub.args.args + stub.args.kwonlyargs]
        assert list(inspect.signature(getattr(r1seg.EncodedVolume, name)).parameters) == stubbed, name


@pytest.mark.parametrize("name", r1seg.__all__)
def test_everything_public_is_documented(name):
    if name == "__version__":
        return
    of = getattr(r1seg, name)
    assert inspect.getdoc(of), name
    if inspect.isclass(of):
        for member, value in vars(of).items():
            if not member.startswith("_") and callable(value):
                assert inspect.getdoc(value), f"{name}.{member}"


def test_the_example_of_the_page_runs(phantom, tmp_path, monkeypatch):
    """The Python blocks of README.md, with the demo model and a phantom."""
    page = Path(__file__).parents[1] / "README.md"
    blocks = page.read_text().split("```python\n")[1:]
    assert blocks
    monkeypatch.chdir(tmp_path)
    scope = {}
    for block in blocks:
        code = block.split("```")[0]
        code = code.replace('"R1Seg-3D-Phi-3-4B"', '"demo"').replace('"ct.nii.gz"', repr(str(phantom)))
        exec(compile(code, str(page), "exec"), scope)
    assert (tmp_path / "results" / "mask.nii.gz").is_file()
