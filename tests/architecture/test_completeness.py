import ast
import inspect
import re
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from django.core.management import call_command

from fleet.protocol import browser, episode, messages

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ("fleet", "learning", "sop_web", "scripts", "tests")
PURE = ("fleet/protocol", "fleet/agent", "learning/core")


def tracked(*patterns: str) -> list[Path]:
    names = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", *patterns],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split("\0")
    return [ROOT / name for name in names if name and (ROOT / name).is_file()]


@pytest.mark.parametrize("arguments", [["check"], ["format", "--check"]], ids=["lint", "format"])
def test_ruff_has_nothing_to_say(arguments):
    result = subprocess.run(
        [sys.executable, "-m", "ruff", *arguments, "."],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout[-4000:]


@pytest.mark.django_db
def test_no_migration_is_pending():
    call_command("makemigrations", check=True, dry_run=True, verbosity=0)


def environment_variables() -> set[str]:
    """Names that settings read, found in the source: a new one cannot be forgotten."""
    tree = ast.parse((ROOT / "sop_web/settings.py").read_text())
    return {
        call.args[0].value
        for call in ast.walk(tree)
        if isinstance(call, ast.Call)
        and isinstance(call.func, ast.Attribute)
        and isinstance(call.func.value, ast.Name)
        and call.func.value.id == "env"
        and isinstance(call.args[0], ast.Constant)
    }


@pytest.mark.parametrize("document", [".env.example", "docs/operations.md"])
def test_every_setting_is_documented_and_nothing_else_is(document):
    text = (ROOT / document).read_text()
    if document == ".env.example":
        documented = set(re.findall(r"^#? ?([A-Z][A-Z0-9_]+)=", text, re.MULTILINE))
    else:
        documented = set(re.findall(r"^\| `([A-Z][A-Z0-9_]+)` \|", text, re.MULTILINE))
    assert documented == environment_variables()


def public_definitions(path: Path) -> list[tuple[str, bool]]:
    """Each public function, class and method of a file, and whether it has a docstring.

    Methods that a base class in the same package documents need none of their own.
    """
    found = []

    def visit(node: ast.AST, prefix: str) -> None:
        for child in ast.iter_child_nodes(node):
            if not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                continue
            if child.name.startswith("_"):
                continue
            inherits = isinstance(node, ast.ClassDef) and bool(node.bases)
            documented = ast.get_docstring(child) is not None
            found.append((f"{prefix}{child.name}", documented or inherits))
            if isinstance(child, ast.ClassDef):
                visit(child, f"{prefix}{child.name}.")

    visit(ast.parse(path.read_text()), f"{path.relative_to(ROOT)}: ")
    return found


def test_every_public_definition_of_the_pure_packages_has_a_docstring():
    files = [path for path in tracked(*PURE) if path.suffix == ".py"]
    definitions = [item for path in files for item in public_definitions(path)]
    assert len(definitions) > 100
    assert [name for name, documented in definitions if not documented] == []


def structs(module) -> set[str]:
    return {
        name
        for name, value in inspect.getmembers(module, inspect.isclass)
        if issubclass(value, msgspec.Struct) and value.__module__ == module.__name__
    }


def test_every_message_is_documented_and_every_documented_message_exists():
    text = (ROOT / "docs/protocol.md").read_text()
    documented = set(re.findall(r"^\| `([A-Z][A-Za-z]+)` \|", text, re.MULTILINE))
    assert documented == (structs(messages) | structs(browser)) - {"Message"}


def test_every_column_of_an_episode_part_is_documented():
    text = (ROOT / "docs/data-format.md").read_text()
    documented = set(re.findall(r"^\| `([a-z_.<>]+)` \|", text, re.MULTILINE))
    source = inspect.getsource(episode.part_schema)
    columns = set(re.findall(r'pa\.field\("([a-z_]+)"', source)) | {"image.<camera>"}
    assert columns <= documented


def test_every_safety_rule_names_a_test_that_exists():
    text = (ROOT / "docs/safety.md").read_text()
    named = re.findall(r"`(tests/[\w/]+\.py)::(test_\w+)`", text)
    assert len(named) >= 10
    missing = [
        f"{path}::{name}"
        for path, name in named
        if not (ROOT / path).is_file() or f"def {name}(" not in (ROOT / path).read_text()
    ]
    assert missing == []


def test_every_todo_has_an_issue():
    mark = "TO" + "DO"
    offenders = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in tracked(*SOURCES)
        if path.suffix in {".py", ".js", ".html", ".css", ".sh"} and "vendor" not in path.parts
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if mark in line and not re.search(mark + r"\([\w-]+\):.*#\d+", line)
    ]
    assert offenders == []


def test_no_file_of_ours_grew_past_what_one_can_hold():
    offenders = {
        str(path.relative_to(ROOT)): lines
        for path in tracked("fleet", "learning", "sop_web", "scripts")
        if path.suffix == ".py"
        and "migrations" not in path.parts
        and (lines := len(path.read_text().splitlines())) > 500
    }
    assert offenders == {}
