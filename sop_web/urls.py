"""Every HTTP address of the product."""

from django.contrib import admin
from django.urls import include, path

from learning.api import api
from sop_web import health

urlpatterns = [
    path("healthz", health.healthz, name="healthz"),
    path("readyz", health.readyz, name="readyz"),
    path("admin/", admin.site.urls),
    path("api/", api.urls),
    path("", include("learning.urls")),
    path("", include("fleet.urls")),
]
