"""No page says in English only what it says: every string is wrapped, and every one translated."""

import ast
import gettext
import logging
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.apps import apps
from django.core.management import call_command

import fleet.exceptions
import learning.exceptions
from fleet import phrases
from tests.architecture.test_completeness import ROOT, tracked

LANGUAGES = sorted(path.name for path in (ROOT / "locale").iterdir())
DOMAINS = {"django": "html,txt,py", "djangojs": "js"}
HELP = "run `make words`, then fill in what is empty; see docs/translating.md"
Catalog = dict[str | tuple[str, int], str]


def catalog(path: Path) -> Catalog:
    """What a .mo translates, without its header."""
    with path.open("rb") as file:
        found = dict(gettext.GNUTranslations(file)._catalog)
    del found[""]
    return found


def compiled(po: Path, to: Path) -> Catalog:
    subprocess.run(["msgfmt", "--check-format", "-o", to, po], check=True)
    return catalog(to)


def unfinished(po: Path) -> list[str]:
    """Strings of a catalog that have no translation, or one that somebody must look at."""
    found = []
    for which in ("--untranslated", "--only-fuzzy"):
        command = ["msgattrib", "--no-obsolete", "--no-wrap", which, str(po)]
        text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        found += [line for line in text.splitlines() if line.startswith("msgid ")]
    return [line for line in found if line != 'msgid ""']


def test_every_string_of_the_sources_is_translated(tmp_path, monkeypatch, settings, capsys):
    for source in tracked("fleet", "learning", "sop_web", "templates", "static/js", "locale"):
        copy = tmp_path / source.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, copy)
    settings.LOCALE_PATHS = [tmp_path / "locale"]
    monkeypatch.chdir(tmp_path)
    for domain, kinds in DOMAINS.items():
        options = {"no_location": True, "no_obsolete": True, "no_wrap": True}
        call_command(
            "makemessages", locale=LANGUAGES, domain=domain, extensions=kinds.split(","), **options
        )
    # A string that xgettext cannot read to its end hides those after it.
    assert "warning" not in capsys.readouterr().out
    for language in LANGUAGES:
        for domain in DOMAINS:
            name = f"locale/{language}/LC_MESSAGES/{domain}"
            assert unfinished(tmp_path / f"{name}.po") == [], HELP
            new = compiled(tmp_path / f"{name}.po", tmp_path / "new.mo")
            kept = catalog(ROOT / f"{name}.mo")
            assert new == kept, f"{name}.mo is not what its sources and its .po say: {HELP}"


def marks(text: str) -> list[str]:
    """What must be in a translation as it is in the string: placeholders and elements."""
    return sorted(set(re.findall(r"%\(\w+\)s|\{\w+\}|%%|</?\w+[^>]*>", text)))


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("domain", DOMAINS)
def test_placeholders_and_elements_are_those_of_the_string(language, domain):
    for key, text in catalog(ROOT / f"locale/{language}/LC_MESSAGES/{domain}.mo").items():
        string = key[0] if isinstance(key, tuple) else key
        assert marks(text) == marks(string), string
        # Translations stand in attributes too, between double quotes.
        assert ('"' in text) <= ('"' in string), string


# Words that are the same in every language: names, and what people type.
NAMES = {"SOP", "sop", "JSON", "CSV", "Spearman", "ROBOT", "hg-dagger", "Esc", "ms"}
HIDDEN = re.compile(
    r"{%\s*(comment|blocktranslate)\b.*?{%\s*end\1\s*%}|{%.*?%}|{{.*?}}|{#.*?#}"
    r"|<(code|kbd)\b.*?</\2>|<!doctype[^>]*>",
    re.DOTALL,
)
SPOKEN = re.compile(r'\b(?:title|aria-label|placeholder|alt|data-word)="([^"]*)"')


def words_of(template: str) -> Iterator[str]:
    """Words that a template shows, or says to who hears it, without translating them."""
    plain = HIDDEN.sub(" ", template)
    shown = [*SPOKEN.findall(plain), re.sub(r"<[^>]*>", "\n", plain)]
    for text in shown:
        yield from (word for word in re.findall(r"[A-Za-z][\w’'-]+", text) if word not in NAMES)


def test_no_template_shows_words_that_are_not_translated():
    found = {path.name: list(words_of(path.read_text())) for path in tracked("templates/*.html")}
    assert {name: words for name, words in found.items() if words} == {}, "use {% translate %}"


# Literals of page scripts: text, and templates, whose `${}` hold no further ones we look into.
LITERAL = re.compile(r'"(?:[^"\\\n]|\\.)*"|`(?:[^`\\]|\\.)*`')


def spoken_by(script: str) -> Iterator[str]:
    """Literals of a script that read like a sentence and are not wrapped in gettext."""
    script = re.sub(r"/\*.*?\*/", "", script, flags=re.DOTALL)
    script = re.sub(r"^\s*//.*$|\s//\s.*$", "", script, flags=re.MULTILINE)
    # What is wrapped, with its further forms, is gone; so is what queries and classes are made of.
    script = re.sub(r'\w*gettext\((?:\s*"(?:[^"\\]|\\.)*"\s*,?)+', "", script)
    # One word with a capital is a heading, unless it is a message, a key or a header.
    yield from re.findall(r'(?<!type: )(?<!== )(?<!case )"([A-Z][a-z]+)"', script)
    for found in LITERAL.finditer(script):
        text = re.sub(r"\$\{[^}]*\}", "", found[0][1:-1])
        if re.search(r"[<\[=#$]|;(?! )|^(chip|line|lane|plate) |^\(prefers|^M|rgba|^sop", text):
            continue
        if re.search(r"[A-Za-z]{2,}[,:]? [A-Za-z]{2,}", text):
            yield found[0]


def test_no_script_says_what_is_not_translated():
    found = {path.name: list(spoken_by(path.read_text())) for path in tracked("static/js/*.js")}
    assert {name: texts for name, texts in found.items() if texts} == {}, "use gettext()"


# Refusals that only programs read: robots, and whoever calls the API.
FOR_PROGRAMS = ("learning/api/", "learning/services/ingest.py", "learning/blobs.py")
REFUSALS = {*vars(fleet.exceptions), *vars(learning.exceptions), "Http404", "BadMessage"}
# A field's name and what Django says of it.
AS_IT_CAME = {"7: 7"}


def literal(node: ast.AST) -> str:
    """A text of the source, with "7" for what varies; empty for what is none."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(str(p.value) if isinstance(p, ast.Constant) else "7" for p in node.values)
    return ""


def refusals(path: Path) -> Iterator[str]:
    """Examples of what the exceptions of a module say, with "7" for what varies."""
    for call in ast.walk(ast.parse(path.read_text())):
        if not (isinstance(call, ast.Raise) and isinstance(call.exc, ast.Call) and call.exc.args):
            continue
        if getattr(call.exc.func, "id", "") not in REFUSALS:
            continue
        if text := literal(call.exc.args[0]):
            yield text


SPEAKING = [
    path
    for path in tracked(*(f"{app}/{layer}/*.py" for app in ("fleet", "learning")
                          for layer in ("services", "selectors", "views", "consumers")))
    if not str(path.relative_to(ROOT)).startswith(FOR_PROGRAMS)
]  # fmt: skip


def test_what_services_refuse_is_known_in_every_language():
    said = {text for path in SPEAKING for text in refusals(path)} - AS_IT_CAME
    assert len(said) > 60
    unknown = sorted(text for text in said if phrases.find(text) is None)
    assert unknown == [], "add them to fleet/sayings.py or learning/sayings.py"


# Where robots, services and learners put together what they say, without raising it.
SAYING = [
    *(f"fleet/agent/{name}.py" for name in ("arbiter", "helpwatch", "runtime", "situation",
                                            "policies", "bases", "weights", "spool")),
    "fleet/services/help.py", "fleet/consumers/operator.py", "learning/core/gate.py",
    *(f"fleet/services/live/{name}.py" for name in ("takeovers", "handovers", "help_desk")),
    *(f"learning/services/{name}.py" for name in ("trials", "evaluations", "rounds", "learners")),
]  # fmt: skip
# Ends of sentences, names of things, and a line of the log.
PIECES = {": 7", "7: 7", "Bearer 7", "part 7", "7 7 7 7 steps 7 parts"}


def sentences(path: Path) -> Iterator[str]:
    """Texts of a module with a space in them, "7" for what varies; no docstrings, no logs."""
    tree = ast.parse(path.read_text())
    silent: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr):
            silent.add(id(node.value))
        elif isinstance(node, ast.JoinedStr):
            silent.update(map(id, node.values))
        elif isinstance(node, ast.Call) and getattr(node.func, "attr", "") in vars(logging.Logger):
            silent.update(id(part) for argument in node.args for part in ast.walk(argument))
    for node in ast.walk(tree):
        if id(node) not in silent and " " in (text := literal(node)).strip():
            yield text


def test_what_robots_and_services_say_is_known_in_every_language():
    said = {text for name in SAYING for text in sentences(ROOT / name)} - PIECES
    assert len(said) > 60
    unknown = sorted(text for text in said if phrases.find(text) is None)
    assert unknown == [], "add them to fleet/sayings.py or learning/sayings.py"


def test_what_rows_may_say_is_known_in_every_language():
    ours = [
        model for app in ("fleet", "learning") for model in apps.get_app_config(app).get_models()
    ]
    unknown = {
        str(label).lower()
        for model in ours
        for field in model._meta.fields
        for _, label in field.choices or ()
        if phrases.find(str(label).lower()) is None
    }
    assert unknown == set(), "add them to fleet/sayings.py or learning/sayings.py"
