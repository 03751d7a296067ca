"""How Sphinx builds these pages: `make docs`."""

project = "Theory"
author = "The Theory contributors"
copyright = "The Theory contributors"  # noqa: A001 - Sphinx's name for it
release = "0.1.0"
extensions = ["myst_parser"]
html_theme = "furo"
html_title = "Theory"
exclude_patterns: list[str] = []
myst_heading_anchors = 3
