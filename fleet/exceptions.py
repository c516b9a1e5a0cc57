"""What can be refused. Each carries what a person needs to read, and a code for programs."""


class Refusal(Exception):
    """A request that is understood and not granted."""

    code = "refused"


class NotAllowed(Refusal):
    """The operator's role does not reach."""

    code = "not_allowed"


class RobotUnknown(Refusal):
    """No robot of that name, or it is disabled."""

    code = "robot_unknown"


class RobotBusy(Refusal):
    """Somebody else holds the robot, or an evaluation must not be touched."""

    code = "robot_busy"


class LeaseGone(Refusal):
    """The lease ended, or a newer one exists."""

    code = "lease_gone"


class PolicyStale(Refusal):
    """An assignment of a version older than the one in force, without saying so on purpose."""

    code = "policy_stale"


class HelpTaken(Refusal):
    """Somebody else has the request for help, or it is closed."""

    code = "help_taken"
