"""What the server renders of the help queue; what is in it comes over the socket."""

import re

import pytest
from django.test import Client

from tests.factories import Cast, make_fleet_settings, make_robot


def page(client: Client, who, path: str = "/") -> str:
    client.force_login(who.user)
    return client.get(path).content.decode()


@pytest.mark.parametrize(
    ("role", "may_drive", "gives"),
    [("viewer", "false", False), ("operator", "true", False), ("lead", "true", True)],
)
def test_the_queue_comes_before_the_wall_and_offers_what_the_role_may(
    client: Client, cast: Cast, role: str, may_drive: str, gives: bool
):
    make_fleet_settings(help_sla_s=45)
    html = page(client, getattr(cast, role))
    queue = html.index('aria-labelledby="help-title"')
    assert queue < html.index('aria-label="Robots"')
    assert 'data-sla-s="45"' in html
    assert f'data-may-drive="{may_drive}"' in html[queue:]
    assert 'data-robot-url="/robots/ROBOT/"' in html
    given = re.findall(r"<option>(\w+)</option>", html)
    assert given == (["admin", "lead", "operator"] if gives else [])


@pytest.mark.parametrize(("role", "asks"), [("viewer", False), ("operator", True)])
def test_a_robots_page_lets_those_who_may_drive_ask(client, cast: Cast, role: str, asks: bool):
    make_robot("arm-01", spec={"cameras": [], "state_names": []})
    html = page(client, getattr(cast, role), "/robots/arm-01/")
    assert 'data-ask="arm-01"' in html
    assert ("Ask for help" in html) is asks


def test_settings_of_help_are_changed_by_admins_and_requests_are_only_looked_at(
    client: Client, cast: Cast
):
    make_fleet_settings()
    html = page(client, cast.admin, "/admin/fleet/fleetsettings/1/change/")
    for name in ("sla_s", "doubt", "still_s", "failures", "value_drop", "value_correlation"):
        assert f'name="help_{name}"' in html
    assert 'name="values_on_robots"' in html
    # What a learner says is not for people to type.
    assert 'name="value"' not in html
    assert client.get("/admin/fleet/helprequest/").status_code == 200
    assert client.get("/admin/fleet/helprequest/add/").status_code == 403
