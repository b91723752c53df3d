"""What the counters of the field count: multiply-adds of published cells on ImageNet (48 channels, 14 cells, 224x224) beside what papers print.

    python benchmarks/counters.py

Columns: convolutions and linear layers, which `archgrad count` counts; then what the authors' networks do beside them, by their layout: elements
behind a BatchNorm and behind a ReLU, elements that a pool adds up, elements that a node adds, and the auxiliary head, in millions.
"""

from __future__ import annotations

from collections import Counter

import archgrad
from archgrad.cost.counting import count

CHANNELS, CELLS, SIZE, CLASSES = 48, 14, 224, 1000
PRINTED = {"DARTS_V2": 574, "PDARTS": 557, "PCDARTS": 586, "PC-DARTS:PC_DARTS_image": 597}
COLUMNS = ("layers", "BatchNorm", "ReLU", "pools", "sums", "auxiliary")


def beside(genotype: archgrad.Genotype) -> Counter[str]:
    """Elements of everything in the network of quark0/darts but convolutions and linear layers, in evaluation, and the head's multiply-adds."""
    cells = {cell.group: cell for cell in genotype.cells}
    found: Counter[str] = Counter()
    found["BatchNorm"] = (SIZE // 2) ** 2 * CHANNELS // 2 + (
        (SIZE // 4) ** 2 + (SIZE // 8) ** 2
    ) * CHANNELS  # of the stem
    found["ReLU"] = (SIZE // 2) ** 2 * CHANNELS // 2 + (SIZE // 4) ** 2 * CHANNELS
    (before, side_before), (last, side), width = (
        (CHANNELS, SIZE // 4),
        (CHANNELS, SIZE // 8),
        CHANNELS,
    )
    for place in range(CELLS):
        reduces = place in (CELLS // 3, 2 * CELLS // 3)
        cell, width, out = (
            cells["reduce" if reduces else "normal"],
            width * (2 if reduces else 1),
            side // (2 if reduces else 1),
        )
        found["ReLU"] += (
            before * side_before**2 + last * side**2
        )  # each input has its ReLU, convolution, BatchNorm
        found["BatchNorm"] += 2 * width * side**2
        for link in cell.links:
            read, made = width * (side if link.source < 2 else out) ** 2, width * out**2
            shrinks, kind = reduces and link.source < 2, link.primitive.partition("_")[0]
            times = {"sep": 2, "dil": 1, "skip": int(shrinks)}.get(kind, 0)
            found["BatchNorm"] += times * made
            found["ReLU"] += min(times, 1) * read + max(times - 1, 0) * made
            found["pools"] += 9 * made if kind in ("max", "avg") else 0
        found["sums"] += (
            (len(cell.links) - len({link.target for link in cell.links})) * width * out**2
        )
        before, side_before, last, side = last, side, len(cell.concat) * width, out
        if place == 2 * CELLS // 3:
            found["auxiliary"] = 4 * last * 128 + 4 * 128 * 768 + 768 * CLASSES
    return found


def row(name: str) -> dict[str, float]:
    """The columns of one cell, in millions."""
    genotype = archgrad.Genotype.parse(name)
    network = archgrad.space("darts", stem="imagenet").derive(
        genotype, channels=CHANNELS, cells=CELLS, classes=CLASSES
    )
    whole = beside(genotype) + Counter(layers=count(network, SIZE)["macs"])
    return {column: whole[column] / 1e6 for column in COLUMNS}


def main() -> None:
    print(
        f"{'cell':25}{''.join(f'{column:>11}' for column in COLUMNS)}{'layers + 2 BatchNorm + ReLU':>30}{'printed':>9}"
    )
    for name, printed in PRINTED.items():
        found = row(name)
        whole = found["layers"] + 2 * found["BatchNorm"] + found["ReLU"]
        print(
            f"{name:25}{''.join(f'{found[column]:11.2f}' for column in COLUMNS)}{whole:30.1f}{printed:9}"
        )


if __name__ == "__main__":
    main()
