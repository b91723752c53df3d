"""The types of options that several methods, spaces and sections share, each with its bounds."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from archgrad.bounds import EPOCHS, THREADS

PositiveInt = Annotated[int, Field(ge=1)]
"""Whole number of at least 1."""

NotNegativeInt = Annotated[int, Field(ge=0)]
"""Whole number of at least 0."""

PositiveFloat = Annotated[float, Field(gt=0, allow_inf_nan=False)]
"""Finite number above 0."""

NotNegativeFloat = Annotated[float, Field(ge=0, allow_inf_nan=False)]
"""Finite number of at least 0."""

PositiveOrInfinite = Annotated[float, Field(gt=0)]
"""Upper limit above 0, where infinity means no limit."""

Share = Annotated[float, Field(ge=0, lt=1)]
"""Part of a whole: at least 0 and below 1."""

PositiveShare = Annotated[float, Field(gt=0, le=1)]
"""Part of a whole: above 0 and at most 1."""

Threads = Annotated[int, Field(ge=1, le=THREADS)]
"""Number of threads of the processor."""

Epochs = Annotated[int, Field(ge=1, le=EPOCHS)]
"""Number of epochs of a search or a training."""
