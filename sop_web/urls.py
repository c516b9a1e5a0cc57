"""Every HTTP address of the product."""

from django.contrib import admin
from django.urls import include, path
from django.views.i18n import set_language

from learning.api import api
from sop_web import health, words

urlpatterns = [
    path("healthz", health.healthz, name="healthz"),
    path("readyz", health.readyz, name="readyz"),
    path("language/", set_language, name="set_language"),
    path("words/<slug:language>/<slug:version>.js", words.catalog, name="words"),
    path("admin/", admin.site.urls),
    path("api/", api.urls),
    path("", include("learning.urls")),
    path("", include("fleet.urls")),
]
