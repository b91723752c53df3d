"""Latency on the user's own device: each op is measured, whole networks calibrate their sum.

The file of a measurement names the device, the software and the networks that it is valid for.
"""

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
