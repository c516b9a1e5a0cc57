"""Sockets of the fleet app: (path, ASGI application)."""

from fleet.consumers.feed import FeedSocket
from fleet.consumers.operator import OperatorSocket
from fleet.consumers.robot import RobotSocket

sockets = [
    ("ws/robot/", RobotSocket.as_asgi()),
    ("ws/operator/", OperatorSocket.as_asgi()),
    ("ws/feed/", FeedSocket.as_asgi()),
]
