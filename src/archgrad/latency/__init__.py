"""Latency on the user's own device: measured op by op, calibrated on whole networks, kept in a file that says what it belongs to."""

from archgrad.latency.measuring import Tick, chosen, measure, networks_ms
from archgrad.latency.profile import Profile, Setting, find, place, read, recorded, setting, write

__all__ = [
    "Profile",
    "Setting",
    "Tick",
    "chosen",
    "find",
    "measure",
    "networks_ms",
    "place",
    "read",
    "recorded",
    "setting",
    "write",
]
