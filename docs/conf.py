"""Settings of the documentation: ``make docs``."""

import sys
from importlib.metadata import version as installed_version
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

project = "dbx"
author = "dbx developers"
copyright = "dbx developers"
version = release = installed_version("dbx-bio")

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "sphinx.ext.napoleon",
    "sphinxcontrib.bibtex",
    "steps_table",
]
exclude_patterns = ["_build", "_templates", "_ext"]
templates_path = ["_templates"]

# Types stand in the signatures only; sphinx puts them beside the documented parameters.
autosummary_generate = True
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
napoleon_google_docstring = False
napoleon_use_rtype = False
python_use_unqualified_type_names = True

# Every reference to something of dbx must resolve; other projects' names are not looked up, so that the build needs no
# network.
nitpicky = True
nitpick_ignore_regex = [(r"py:.*", r"(?!dbx\.).*")]

myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3
nb_execution_mode = "force"
nb_execution_raise_on_error = True
nb_execution_timeout = 300
nb_merge_streams = True
bibtex_bibfiles = ["references.bib"]

html_theme = "sphinx_book_theme"
html_title = "dbx"
html_theme_options = {"show_toc_level": 2, "use_download_button": False, "use_fullscreen_button": False}
