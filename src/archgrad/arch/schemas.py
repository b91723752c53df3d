"""Type of a genotype in JSON files."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator

from archgrad.arch.genotype import Genotype


def _check(data: dict[str, Any]) -> dict[str, Any]:
    Genotype.from_json(data)
    return data


GenotypeJson = Annotated[dict[str, Any], AfterValidator(_check)]
"""An object that `Genotype.to_json` returned."""
