"""Settings of the documentation site: `make docs` builds it into build/docs."""

from __future__ import annotations

import pkgutil
from importlib import import_module
from inspect import isfunction
from types import ModuleType
from typing import Any

from docutils import nodes
from docutils.statemachine import StringList
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

import archgrad

project = "archgrad"
author = "the authors of archgrad"
copyright = "the authors of archgrad, Apache-2.0"
version = release = archgrad.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
source_suffix = {".md": "markdown"}
root_doc = "index"
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"archgrad {version}"
html_show_sourcelink = False

myst_heading_anchors = 4
myst_enable_extensions = ["colon_fence"]

autodoc_member_order = "bysource"
autodoc_typehints = "description"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
default_role = "code"

# Autodoc makes a `py:class` reference of each annotation, and many such types have no page here.
# A link to a page, a heading or a function is still checked.
nitpicky = True
nitpick_ignore_regex = [("py:class", ".*")]
# A name in single backquotes may stand for several objects: the text is then no link.
suppress_warnings = ["misc.highlighting_failure", "ref.python"]
napoleon_use_ivar = True  # fields are listed once, with their values


class Faces(SphinxDirective):
    """Document the public names of archgrad and of each package that has an ``__all__``."""

    def run(self) -> list[nodes.Node]:
        packages = [
            one.name for one in pkgutil.iter_modules(archgrad.__path__, "archgrad.") if one.ispkg
        ]
        faces = [name for name in packages if getattr(import_module(name), "__all__", ())]
        places: dict[int, str] = {}
        lines = [line for name in ("archgrad", *faces) for line in described(name, places)]
        text = StringList(lines, source=self.get_source_info()[0])
        return self.parse_text_to_nodes(text, allow_section_headings=True)


def described(module: str, places: dict[int, str]) -> list[str]:
    """Return a section of one module, and note in ``places`` where each object is described."""
    face = import_module(module)
    lines = [f"## `{module}`", ""]
    for name in face.__all__:
        found = getattr(face, name)
        if name.startswith("__") or isinstance(found, ModuleType):
            continue
        place = places.setdefault(id(found), f"{module}.{name}")
        own = place == f"{module}.{name}"
        lines += entry(place, found) if own else [f"`{module}.{name}` is `{place}`.", ""]
    return lines


def entry(place: str, found: Any) -> list[str]:
    """Return the directive of one public name. A value, such as a type alias, has no docstring."""
    if isinstance(found, type):
        directive, options = "autoclass", ["   :members:"]
    else:
        directive, options = "autofunction" if isfunction(found) else "py:data", []
    return [
        "```{eval-rst}",
        f".. {directive}:: {place}",
        *options,
        "   :no-index-entry:",
        "```",
        "",
    ]


def setup(app: Sphinx) -> None:
    app.add_directive("faces", Faces)
