"""Sockets: parse, check who asks, hand over to the live links."""
