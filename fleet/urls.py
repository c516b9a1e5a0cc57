"""Pages of the fleet app."""

from django.urls import URLPattern

app_name = "fleet"
urlpatterns: list[URLPattern] = []
