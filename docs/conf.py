"""Sphinx: ``python3 dev.py docs`` builds with warnings as errors."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import django
from sphinx.application import Sphinx

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent / "src"), str(HERE / "_ext")]
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")
django.setup()

project = "djmessenger"
author = "djmessenger contributors"
project_copyright = f"2026, {author}"
extensions = ["myst_parser", "sphinx.ext.autodoc", "tables"]
exclude_patterns = ["_build"]
root_doc = "index"
html_theme = "furo"
html_title = "djmessenger"
html_show_sourcelink = False
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
autodoc_default_options = {"members": True, "show-inheritance": True}
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
# A messaging is a class of receiving and a model, as documented; signatures name it without its module.
suppress_warnings = ["ref.python"]


def skip_what_another_page_has(
    app: Sphinx, what: str, name: str, obj: Any, skip: bool, options: Any
) -> bool | None:
    """Leave out what a module only passes on, such as ``Messaging`` in ``djmessenger.rules``."""
    page = f"djmessenger.{app.env.docname.rpartition('/')[2]}"
    home = getattr(obj, "__module__", None) or page
    if what == "module" and home.startswith("djmessenger.") and not f"{home}.".startswith(f"{page}."):
        return True
    return None


def setup(app: Sphinx) -> None:
    app.connect("autodoc-skip-member", skip_what_another_page_has)
