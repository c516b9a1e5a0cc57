"""The program on a robot. Pure: no Django, Channels, Celery or Redis client."""

VERSION = "0.1.0"
