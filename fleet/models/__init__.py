"""Rows of the fleet app: robots, what they do, who drives them, what they reported."""

from fleet.models.help import HelpRequest
from fleet.models.operators import Operator, OperatorKind, Role
from fleet.models.policies import PolicyReport
from fleet.models.robots import FleetSettings, Robot
from fleet.models.takeover import LeaseEnd, TakeoverLease
from fleet.models.tasks import Task
from fleet.models.views import SavedView

__all__ = [
    "FleetSettings",
    "HelpRequest",
    "LeaseEnd",
    "Operator",
    "OperatorKind",
    "PolicyReport",
    "Robot",
    "Role",
    "SavedView",
    "TakeoverLease",
    "Task",
]
