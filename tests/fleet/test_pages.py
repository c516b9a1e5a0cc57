import hashlib
from datetime import timedelta
from pathlib import Path

import pytest
from django.conf import settings
from django.test import Client
from django.utils import timezone

from fleet.models import FleetSettings, PolicyReport, Robot, SavedView
from fleet.protocol.simulation import robot_spec
from fleet.protocol.spec import RobotSpec
from fleet.selectors import pages
from fleet.services import saved_views
from fleet.views import stop as stop_views
from tests.factories import Cast, make_operator, make_robot, make_task

SPEC = {
    "cameras": [
        {"name": "wrist", "title": "Wrist", "width_px": 128, "height_px": 128, "heading_rad": None},
        {"name": "front", "title": "Front", "width_px": 128, "height_px": 128, "heading_rad": 2.6},
    ],
    "state_names": ["hand_x", "hand_y", "hand_z", "gripper_open", "more"],
    "action_names": ["x", "y", "z", "gripper"],
}


@pytest.fixture
def stops(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, object]]:
    """What was asked to stop, with the real effect on the rows and no Redis."""
    asked: list[dict[str, object]] = []
    real = stop_views.request_stop

    def request_stop(**what: object) -> object:
        asked.append(what)
        return real(**what)

    monkeypatch.setattr(stop_views, "request_stop", request_stop)
    return asked


def signed_in(operator: object) -> Client:
    client = Client()
    client.force_login(operator.user)
    return client


@pytest.mark.parametrize("path", ["/", "/robots/arm-1/", "/robots/arm-1/_policies/", "/scripted/"])
def test_pages_ask_strangers_to_sign_in(cast: Cast, client: Client, path: str) -> None:
    make_robot("arm-1")
    assert client.get(path).headers["Location"].startswith("/login/?next=")


def test_signing_in_leads_to_the_fleet(cast: Cast, client: Client) -> None:
    answer = client.post("/login/", {"username": "viewer", "password": "viewer"})
    assert answer.headers["Location"] == "/"


def test_a_wrong_password_is_said_in_words(cast: Cast, client: Client) -> None:
    answer = client.post("/login/", {"username": "viewer", "password": "nonsense"})
    assert "do not match" in answer.content.decode()


def test_an_account_that_is_no_operator_is_told_what_to_do(cast: Cast, client: Client) -> None:
    client.force_login(cast.outsider)
    answer = client.get("/")
    assert answer.status_code == 403
    text = answer.content.decode()
    assert "This account is not an operator of the fleet." in text
    assert "Sign out" in text


def test_an_empty_fleet_says_how_to_add_a_robot(cast: Cast) -> None:
    text = signed_in(cast.viewer).get("/").content.decode()
    assert "No robot is registered" in text
    assert "make run" in text


def test_every_enabled_robot_has_a_tile_and_disabled_ones_have_none(cast: Cast) -> None:
    make_robot("arm-1", spec=SPEC)
    make_robot("arm-2", enabled=False)
    text = signed_in(cast.viewer).get("/").content.decode()
    assert 'data-robot="arm-1"' in text
    assert 'data-camera="front"' in text
    assert "arm-2" not in text


@pytest.mark.parametrize(
    ("silent_s", "mode", "kind"),
    [
        (0, "autonomous", "autonomous"),
        (0, "handover", "human"),
        (0, "takeover", "human"),
        (0, "stopped", "stopped"),
        (4, "autonomous", "stale"),
        (60, "autonomous", "offline"),
    ],
)
def test_a_tile_says_what_the_row_knows(db: None, silent_s: float, mode: str, kind: str) -> None:
    heard = timezone.now() - timedelta(seconds=silent_s)
    assert pages.condition(make_robot(last_heartbeat_at=heard, mode=mode)) == kind


def test_a_robot_that_never_connected_is_offline(db: None) -> None:
    assert pages.condition(make_robot(mode="autonomous")) == "offline"


def test_a_policy_is_shown_with_how_far_it_is_behind(db: None) -> None:
    def words(assigned: int | None, reported: int | None) -> str:
        return pages.policy_words(Robot(assigned_number=assigned, reported_number=reported))

    assert words(9, 7) == "v7 · 2 behind"
    assert words(7, 7) == "v7"
    pinned = Robot(assigned_number=7, reported_number=7, pinned_at=timezone.now())
    assert pages.policy_words(pinned) == "v7 · pinned"
    assert words(3, 7) == "v7"
    assert words(7, None) == "no policy"


def test_only_operators_may_drive_and_everybody_may_stop(cast: Cast) -> None:
    make_robot("arm-1", spec=SPEC)
    viewer = signed_in(cast.viewer).get("/robots/arm-1/").content.decode()
    assert 'data-may-drive="false"' in viewer
    assert "driving needs the role operator" in viewer
    assert 'action="/robots/arm-1/stop/"' in viewer
    operator = signed_in(cast.operator).get("/robots/arm-1/").content.decode()
    assert 'data-may-drive="true"' in operator


def test_a_tile_says_whether_the_robots_cameras_are_known(cast: Cast) -> None:
    make_robot("arm-1")
    browser = signed_in(cast.viewer)
    assert "data-known" not in browser.get("/").content.decode()
    Robot.objects.update(spec=SPEC)
    assert "data-known" in browser.get("/").content.decode()


def test_people_drive_by_the_camera_that_says_where_it_looks(cast: Cast) -> None:
    make_task(timeout_ticks=150)
    make_robot("arm-1", spec=SPEC)
    text = signed_in(cast.operator).get("/robots/arm-1/").content.decode()
    assert text.index('data-camera="front"') < text.index('data-camera="wrist"')
    # From which the page says which way W moves.
    assert '"heading_rad": 2.6' in text
    assert 'data-timeout-ticks="150"' in text
    assert "hand_z" in text
    assert 'data-value="more"' not in text


def test_the_simulated_arm_says_where_its_front_camera_looks() -> None:
    spec: RobotSpec = robot_spec()
    assert [c.heading_rad is not None for c in spec.cameras] == [True, False]


def test_a_robot_that_was_never_heard_says_how_to_start_it(cast: Cast) -> None:
    make_robot("arm-1")
    text = signed_in(cast.viewer).get("/robots/arm-1/").content.decode()
    assert "has not introduced itself yet" in text
    assert 'data-reload-on="arm-1"' in text
    assert "cockpit.js" not in text


def test_an_unknown_robot_is_said_by_name(cast: Cast) -> None:
    answer = signed_in(cast.viewer).get("/robots/arm-9/")
    assert answer.status_code == 404
    assert "There is no robot arm-9." in answer.content.decode()


def test_reports_of_a_robot_are_its_own_and_newest_first(cast: Cast) -> None:
    robot, other = make_robot("arm-1"), make_robot("arm-2")
    now = timezone.now()
    for number, owner in ((1, robot), (2, robot), (3, other)):
        PolicyReport.objects.create(
            robot=owner, number=number, sha256="0" * 64, status="applied",
            robot_wall_ns=number, reported_at=now + timedelta(seconds=number),
        )  # fmt: skip
    text = signed_in(cast.viewer).get("/robots/arm-1/_policies/").content.decode()
    assert text.index(">v2<") < text.index(">v1<")
    assert ">v3<" not in text


def test_a_robot_without_reports_says_when_they_come(cast: Cast) -> None:
    make_robot("arm-1")
    text = signed_in(cast.viewer).get("/robots/arm-1/_policies/").content.decode()
    assert "No version reported yet" in text


def test_a_viewer_stops_the_fleet_with_a_plain_form(
    cast: Cast, stops: list[dict[str, object]]
) -> None:
    make_robot("arm-1")
    answer = signed_in(cast.viewer).post("/stop/", follow=True)
    assert stops == [{"by": cast.viewer, "every": True}]
    assert Robot.objects.get().stop_requested
    assert "Stop sent to every robot" in answer.content.decode()


def test_a_stop_sent_by_script_is_answered_in_json(
    cast: Cast, stops: list[dict[str, object]]
) -> None:
    make_robot("arm-1")
    client = signed_in(cast.viewer)
    answer = client.post("/robots/arm-1/stop/", headers={"Accept": "application/json"})
    assert answer.json()["stop_id"] == Robot.objects.get().stop_requested
    assert stops == [{"by": cast.viewer, "robots": ("arm-1",)}]


@pytest.mark.parametrize("path", ["/stop/", "/robots/arm-1/stop/"])
def test_a_stop_needs_an_operator_and_a_post(
    cast: Cast, client: Client, stops: list[dict[str, object]], path: str
) -> None:
    make_robot("arm-1")
    assert signed_in(cast.viewer).get(path).status_code == 405
    client.force_login(cast.outsider)
    assert client.post(path).status_code == 403
    assert stops == []


def test_a_stop_from_another_site_is_refused(cast: Cast, stops: list[dict[str, object]]) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(cast.viewer.user)
    assert client.post("/stop/").status_code == 403
    assert stops == []


def test_scripted_operators_are_paused_by_operators_only(cast: Cast) -> None:
    make_operator("script", token="t")
    assert signed_in(cast.viewer).post("/scripted/", {"paused": "1"}).status_code == 403
    assert not FleetSettings.objects.filter(scripted_paused=True).exists()
    assert signed_in(cast.operator).post("/scripted/", {"paused": "1"}).status_code == 302
    assert FleetSettings.objects.get().scripted_paused
    text = signed_in(cast.viewer).get("/scripted/").content.decode()
    assert "paused" in text
    assert "<button" not in text


def test_without_scripted_operators_the_panel_says_so(cast: Cast) -> None:
    text = signed_in(cast.operator).get("/scripted/").content.decode()
    assert "None is registered" in text


def test_no_page_carries_inline_script_or_style(cast: Cast) -> None:
    make_robot("arm-1", spec=SPEC)
    client = signed_in(cast.admin)
    for path in ("/", "/robots/arm-1/", "/learner/", "/episodes/", "/login/"):
        answer = client.get(path)
        text = answer.content.decode()
        assert " style=" not in text
        assert "<style" not in text
        assert " onclick=" not in text
        for script in text.split("<script")[1:]:
            tag, body = script.split(">", 1)
            assert "src=" in tag or "application/json" in tag, tag
            assert "src=" not in tag or body.startswith("</script>")
        assert "unsafe-inline" not in answer.headers["Content-Security-Policy"]


def test_the_stop_control_is_a_button_in_a_form_on_every_page(cast: Cast) -> None:
    make_robot("arm-1", spec=SPEC)
    for path in ("/", "/robots/arm-1/", "/learner/", "/episodes/"):
        text = signed_in(cast.viewer).get(path).content.decode()
        form = text[text.index('<form method="post" action="/stop/"') :]
        form = form[: form.index("</form>")]
        assert "csrfmiddlewaretoken" in form
        assert '<button class="stop" type="submit"' in form


def test_vendored_files_are_the_ones_that_are_listed() -> None:
    folder = Path(settings.BASE_DIR) / "static" / "vendor"
    listed = (folder / "VENDORED.md").read_text()
    for path in folder.iterdir():
        if path.name != "VENDORED.md":
            assert f"`{path.name}`" in listed
            assert hashlib.sha256(path.read_bytes()).hexdigest() in listed


def test_modules_of_the_browser_stay_short() -> None:
    for path in (Path(settings.BASE_DIR) / "static" / "js").glob("*.js"):
        assert len(path.read_text().splitlines()) <= 200, path.name


def test_an_offline_tile_says_since_when(cast: Cast) -> None:
    make_robot("arm-1", last_heartbeat_at=timezone.now() - timedelta(minutes=5))
    make_robot("arm-2")
    text = signed_in(cast.viewer).get("/").content.decode()
    assert "last heard 5\xa0minutes ago" in text
    assert "never connected" in text


def test_a_person_keeps_views_of_the_wall_by_name(cast: Cast) -> None:
    browser = signed_in(cast.viewer)
    assert browser.post("/views/", {"name": "late", "query": "policy=behind"}).status_code == 302
    browser.post("/views/", {"name": " late ", "query": "policy=behind&sort=policy"})
    assert "?policy=behind&amp;sort=policy" in browser.get("/").content.decode()
    assert "policy=behind" not in signed_in(cast.lead).get("/").content.decode()
    browser.post("/views/", {"remove": "late"})
    browser.post("/views/", {"remove": "late"})
    assert not SavedView.objects.exists()


@pytest.mark.parametrize(
    ("posted", "words"),
    [
        ({}, "cannot be saved"),
        ({"name": "  ", "query": "a=b"}, "cannot be saved"),
        ({"name": "n" * 41, "query": ""}, "cannot be saved"),
        ({"name": "long", "query": "q" * 501}, "cannot be saved"),
        ({"name": "nul\0", "query": ""}, "cannot be saved"),
    ],
)
def test_an_impossible_view_is_refused_in_words(
    cast: Cast, posted: dict[str, str], words: str
) -> None:
    answer = signed_in(cast.viewer).post("/views/", posted)
    assert words in answer.content.decode()
    assert not SavedView.objects.exists()


def test_views_of_one_person_have_an_end(cast: Cast) -> None:
    browser = signed_in(cast.viewer)
    for number in range(saved_views.MOST):
        saved_views.save_view(operator=cast.viewer, name=f"view {number}", query="")
    assert "remove one first" in browser.post("/views/", {"name": "more"}).content.decode()
    browser.post("/views/", {"name": "view 1", "query": "sort=name"})
    assert cast.viewer.saved_views.get(name="view 1").query == "sort=name"
    assert SavedView.objects.count() == saved_views.MOST


def test_the_wall_offers_the_tasks_and_sites_there_are(cast: Cast) -> None:
    make_task("hammer")
    make_task("retired", enabled=False)
    for name, site in (("arm-1", "hall 3"), ("arm-2", "hall 3"), ("arm-3", "")):
        make_robot(name, site=site)
    text = signed_in(cast.viewer).get("/").content.decode()
    assert text.count("<option>hall 3</option>") == 1
    assert "<option>hammer</option>" in text
    assert "<option>retired</option>" not in text
    assert text.count('data-site="hall 3"') == 2
