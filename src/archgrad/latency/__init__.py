"""Latency on the user's own device: each op is measured, whole networks calibrate their sum.

The file of a measurement names the device, the software and the networks that it is valid for.
"""

from archgrad.latency.measuring import Tick, choose_genotypes, measure, measure_networks
from archgrad.latency.profile import (
    Profile,
    Setting,
    default_file,
    find,
    read,
    read_unchecked,
    setting,
    write,
)

__all__ = [
    "Profile",
    "Setting",
    "Tick",
    "choose_genotypes",
    "default_file",
    "find",
    "measure",
    "measure_networks",
    "read",
    "read_unchecked",
    "setting",
    "write",
]
