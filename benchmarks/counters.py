"""Count the multiply-adds of published cells on ImageNet, beside the numbers that papers print.

    python benchmarks/counters.py

The networks have 48 channels and 14 cells, and the images are 224x224. The first column has the
convolutions and linear layers, which `archgrad count` counts. The others have the further work of
the authors' networks, by their layout: elements behind a BatchNorm, elements behind a ReLU,
elements that a pool adds, elements that a node adds, and the auxiliary head. The last lines have
the layers and parameters of `DARTS_V2` at two widths. All are in millions.
"""

from __future__ import annotations

from collections import Counter

import archgrad
from archgrad.cost.counting import count

CHANNELS, CELLS, SIZE, CLASSES = 48, 14, 224, 1000
FIRST_CHANNELS = 50
"""The channels of the ImageNet network in the first release of quark0/darts, of June 2018."""
PRINTED = {"DARTS_V2": 574, "PDARTS": 557, "PCDARTS": 586, "PC-DARTS:PC_DARTS_image": 597}
COLUMNS = ("layers", "BatchNorm", "ReLU", "pools", "sums", "auxiliary")


def beside(genotype: archgrad.Genotype, channels: int) -> Counter[str]:
    """Return the work of quark0/darts's network besides convolutions and linear layers.

    The counts are elements, of a network in evaluation mode, and the multiply-adds of the auxiliary
    head.
    """
    cells = {cell.group: cell for cell in genotype.cells}
    found: Counter[str] = Counter()
    # The stem.
    further = ((SIZE // 4) ** 2 + (SIZE // 8) ** 2) * channels
    found["BatchNorm"] = (SIZE // 2) ** 2 * channels // 2 + further
    found["ReLU"] = (SIZE // 2) ** 2 * channels // 2 + (SIZE // 4) ** 2 * channels
    before, side_before = channels, SIZE // 4  # channels and side of the cell before the last
    last, side, width = channels, SIZE // 8, channels
    for place in range(CELLS):
        reduces = place in (CELLS // 3, 2 * CELLS // 3)
        cell = cells["reduce" if reduces else "normal"]
        factor = 2 if reduces else 1
        width, out = width * factor, side // factor
        # Each of the two inputs has its own ReLU, convolution and BatchNorm.
        found["ReLU"] += before * side_before**2 + last * side**2
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


def row(name: str, channels: int = CHANNELS) -> dict[str, float]:
    """Return the columns and the parameters of one cell's network, in millions."""
    genotype = archgrad.Genotype.parse(name)
    network = archgrad.space("darts", stem="imagenet").derive(
        genotype, channels=channels, cells=CELLS, classes=CLASSES
    )
    found = count(network, SIZE)
    whole = beside(genotype, channels) + Counter(layers=found["macs"], parameters=found["params"])
    return {column: whole[column] / 1e6 for column in (*COLUMNS, "parameters")}


def main() -> None:
    columns = "".join(f"{column:>11}" for column in COLUMNS)
    print(f"{'cell':25}{columns}{'layers + 2 BatchNorm + ReLU':>30}{'printed':>9}")
    for name, printed in PRINTED.items():
        found = row(name)
        whole = found["layers"] + 2 * found["BatchNorm"] + found["ReLU"]
        columns = "".join(f"{found[column]:11.2f}" for column in COLUMNS)
        print(f"{name:25}{columns}{whole:30.1f}{printed:9}")
    for channels in (CHANNELS, FIRST_CHANNELS):
        found = row("DARTS_V2", channels)
        print(
            f"DARTS_V2 with {channels} channels: {found['layers']:.1f} of layers, "
            f"{found['parameters']:.2f} of parameters"
        )


if __name__ == "__main__":
    main()
