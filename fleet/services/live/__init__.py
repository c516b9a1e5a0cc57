"""The live side of a web process: sockets, the state of every robot, leases in force, feeds.

Everything here lives in one event loop and never waits for the database or Redis on the way from
an operator to a robot. `hub.live()` is the way in.
"""
