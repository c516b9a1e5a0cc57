import json
import os

import pytest
from django.test import Client

from learning.exceptions import NotFound
from learning.selectors.experiments import experiment_file, experiments, table_of

FOLDER = "loop-20260102-030405"
PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture
def root(tmp_path, settings):
    settings.SOP_EXPERIMENTS = tmp_path / "experiments"
    return settings.SOP_EXPERIMENTS


@pytest.fixture
def done(root):
    folder = root / FOLDER
    folder.mkdir(parents=True)
    (folder / "plot.png").write_bytes(PNG)
    (folder / "settings.json").write_text('{"seed": 0}')
    result = {"experiment": "loop", "final": 0.84, "note": "<script>"}
    (folder / "result.json").write_text(json.dumps({"result": result}))
    (folder / "table.md").write_text("| task | base |\n|---|---|\n| **all** | 9/20 <b> |\n")
    (folder / "secret.txt").write_text("no")
    (root / "secret.txt").write_text("no")
    return folder


@pytest.fixture
def viewer(cast) -> Client:
    client = Client()
    client.force_login(cast.viewer.user)
    return client


def test_without_experiments_the_page_says_which_command_makes_one(viewer, root):
    assert "make experiment NAME=loop" in viewer.get("/experiments/").content.decode()


def test_past_experiments_are_listed_newest_first_with_their_results(viewer, root, done):
    (root / "scaling-20260203-040506-2").mkdir()
    text = viewer.get("/experiments/").content.decode()
    assert text.index("scaling-20260203-040506-2") < text.index(FOLDER)
    assert "final 0.84" in text
    assert "unfinished" in text
    assert "<script>" not in text.split("</header>")[1].replace("<script src", "")


def test_one_experiment_shows_its_plot_table_result_and_settings(viewer, done):
    text = viewer.get(f"/experiments/{FOLDER}/").content.decode()
    assert f'src="/experiments/{FOLDER}/plot.png"' in text
    assert '<th scope="col" class="n">base</th>' in text
    assert "9/20 &lt;b&gt;" in text
    assert "&lt;script&gt;" in text
    assert "seed" in text


def test_known_files_are_served_with_their_type(viewer, done):
    answer = viewer.get(f"/experiments/{FOLDER}/plot.png")
    assert answer.headers["Content-Type"] == "image/png"
    assert b"".join(answer.streaming_content) == PNG
    answer = viewer.get(f"/experiments/{FOLDER}/result.json")
    assert json.loads(b"".join(answer.streaming_content))["result"]["final"] == 0.84


@pytest.mark.parametrize(
    "path",
    [
        f"/experiments/{FOLDER}/secret.txt",
        f"/experiments/{FOLDER}/..%2fsecret.txt",
        f"/experiments/{FOLDER}/%2e%2e/secret.txt",
        f"/experiments/{FOLDER}/curve.json",
        "/experiments/..%2f..%2f/result.json",
        "/experiments/../secret.txt",
        "/experiments/%2e%2e/",
        "/experiments/./",
        f"/experiments/{FOLDER}%00/plot.png",
        f"/experiments/{FOLDER}/plot.png%00",
        f"/experiments/{FOLDER}/",
    ],
)
def test_nothing_but_known_files_of_known_folders_is_served(viewer, done, path):
    answer = viewer.get(path)
    if path.endswith(f"{FOLDER}/"):
        assert answer.status_code == 200  # the set-up works: what is refused is the path
    else:
        assert answer.status_code == 404, path


@pytest.mark.parametrize(
    ("folder", "name"),
    [
        ("..", "secret.txt"),
        (".", "secret.txt"),
        ("", "secret.txt"),
        (FOLDER, "../secret.txt"),
        (FOLDER, "/etc/passwd"),
        (f"../experiments/{FOLDER}", "plot.png"),
        (f"{FOLDER}\n", "plot.png"),
        ("loop-20260102-030405/..", "plot.png"),
    ],
)
def test_names_that_lead_elsewhere_are_not_found(done, folder, name):
    with pytest.raises(NotFound):
        experiment_file(folder, name)


def test_links_are_neither_listed_nor_followed(viewer, root, done, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "plot.png").write_bytes(b"secret")
    os.symlink(elsewhere, root / "loop-20260102-999999")
    (done / "plot.png").unlink()
    os.symlink(elsewhere / "plot.png", done / "plot.png")
    assert [e.folder for e in experiments()] == [FOLDER]
    assert viewer.get(f"/experiments/{FOLDER}/plot.png").status_code == 404
    assert viewer.get("/experiments/loop-20260102-999999/plot.png").status_code == 404


@pytest.mark.parametrize(
    "content", ["", "{", "[1]", "null", '{"result": 3}', "\x00", "[" * 100_000]
)
def test_a_result_that_cannot_be_read_is_no_result_and_no_error(viewer, done, content):
    (done / "result.json").write_text(content)
    (done / "settings.json").write_text(content)
    (done / "table.md").write_text(content)
    assert viewer.get("/experiments/").status_code == 200
    assert viewer.get(f"/experiments/{FOLDER}/").status_code == 200


def test_folders_of_other_names_are_not_experiments(root, done):
    for name in ("kept", "loop", "loop-1", "Loop-20260102-030405", "loop-20260102-030405-x"):
        (root / name).mkdir()
    (root / "loop-20260102-111111").write_text("a file")
    (root / "soak-99999999-999999").mkdir()
    assert {e.folder for e in experiments()} == {FOLDER, "soak-99999999-999999"}


def test_a_table_is_read_without_its_rule_and_stars(done):
    assert table_of(experiments()[0]) == [["task", "base"], ["all", "9/20 <b>"]]
