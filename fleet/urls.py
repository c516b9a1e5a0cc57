"""Pages of the fleet app."""

from django.contrib.auth.views import LoginView, LogoutView
from django.urls import path

from fleet.views import pages, stop

app_name = "fleet"
urlpatterns = [
    path("", pages.fleet, name="fleet"),
    path("login/", LoginView.as_view(template_name="fleet/login.html"), name="login"),
    path("logout/", LogoutView.as_view(), name="logout"),
    path("stop/", stop.stop_fleet, name="stop_fleet"),
    path("views/", pages.saved_views, name="saved_views"),
    path("scripted/", pages.scripted, name="scripted"),
    path("robots/<str:name>/", pages.robot, name="robot"),
    path("robots/<str:name>/_policies/", pages.robot_policies, name="robot_policies"),
    path("robots/<str:name>/stop/", stop.stop_robot, name="stop_robot"),
]
