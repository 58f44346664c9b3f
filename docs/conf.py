"""Sphinx: ``python3 dev.py docs`` builds with warnings as errors."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import django

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
