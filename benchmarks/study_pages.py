"""Write the tables of the pages in docs/studies from the summaries in benchmarks/studies.

    python benchmarks/study_pages.py            # rewrites the section "Tables" of every page
    python benchmarks/study_pages.py --check    # names each page with stale tables, and exits with 1

The page ``docs/studies/NAME.md`` belongs to the folder ``benchmarks/studies/NAME``. A person writes
everything above its heading ``## Tables``, and this script writes everything from that heading on.
A page without this heading has no such folder, and the script leaves it alone.
"""

from __future__ import annotations

import sys
from pathlib import Path

import yaml

from archgrad.compare import summary, to_markdown

ROOT = Path(__file__).parent.parent
PAGES = ROOT / "docs" / "studies"
STUDIES = ROOT / "benchmarks" / "studies"
HEADING = "## Tables\n"
LEGEND = (
    "An interval in brackets is a bootstrap interval of one arm. A value behind ± is the half-width of a t "
    "interval of the difference, paired by seed. Bold differences stay clear after Holm's correction for the "
    "number of arms ([how to read them](../explanation/judgement.md#how-sure-a-study-is))."
)


def tables(folder: Path) -> str:
    """Return the section of one study as Markdown: its command, a legend and its tables."""
    settings = yaml.safe_load((folder / "study.yaml").read_text("utf-8"))
    found = summary.read_all(folder / "summaries")
    arms = tuple(arm for arm in settings["arms"] if any(one["arm"] == arm for one in found))
    whole = len(found) == len(settings["arms"]) * len(settings["seeds"])
    shown = to_markdown(found, settings["control"], arms).strip()
    return f"{HEADING}\n```sh\n{command(folder, whole)}\n```\n\n{LEGEND}\n\n{shown}\n"


def command(folder: Path, whole: bool) -> str:
    """Return the command that prints the tables of a study again without a search."""
    if whole:
        return f"archgrad compare --out {folder.relative_to(ROOT).as_posix()}    # prints these tables from the summaries"
    return "python benchmarks/study_pages.py    # writes these tables from the summaries there are"


def renewed(page: Path) -> str:
    """Return the text of a page with its tables as they follow from the summaries now."""
    by_hand, heading, _ = page.read_text("utf-8").partition(HEADING)
    return by_hand + tables(STUDIES / page.stem) if heading else by_hand


def main() -> int:
    """Write or check the pages; return 1 if a checked page is stale."""
    checking = "--check" in sys.argv[1:]
    new = {page: renewed(page) for page in sorted(PAGES.glob("*.md"))}
    stale = [page for page, text in new.items() if text != page.read_text("utf-8")]
    for page in stale:
        print(page.relative_to(ROOT))
        if not checking:
            page.write_text(new[page], "utf-8")
    return int(checking and bool(stale))


if __name__ == "__main__":
    sys.exit(main())
