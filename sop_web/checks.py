"""What `manage.py check --deploy` refuses in production, beyond Django's own checks."""

from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, Warning, register


@register(Tags.security, deploy=False)
def production_is_safe(app_configs: Any, **_: Any) -> list[CheckMessage]:
    """Refuse settings that are fine on one machine and unsafe beyond it."""
    if not settings.PRODUCTION:
        return []
    found: list[CheckMessage] = []
    if settings.DEBUG:
        found.append(Error("DEBUG shows settings and code to visitors: unset it.", id="sop.E001"))
    if "*" in settings.ALLOWED_HOSTS:
        found.append(Error("ALLOWED_HOSTS must name the hosts, not '*'.", id="sop.E002"))
    if not settings.REDIS_URL:
        found.append(
            Error("REDIS_URL is empty: no worker and no second process hears.", id="sop.E003")
        )
    if "sqlite3" in settings.DATABASES["default"]["ENGINE"]:
        found.append(
            Warning("DATABASE_URL is SQLite: one machine, one writer at a time.", id="sop.W001")
        )
    if not settings.SESSION_COOKIE_SECURE:
        found.append(
            Error("SOP_HTTPS=0: passwords and sessions travel in the clear.", id="sop.E004")
        )
    policy = " ".join(settings.CONTENT_SECURITY_POLICY.values())
    if "unsafe" in policy:
        found.append(Error("CONTENT_SECURITY_POLICY allows inline code.", id="sop.E005"))
    return found
