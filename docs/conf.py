"""Settings of the documentation: ``make docs``."""

import inspect
import sys
from importlib.metadata import version as installed_version
from pathlib import Path

from dbx.ops import Operator

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
    "scanpy_table",
]
exclude_patterns = ["_build", "_templates", "_ext", "example_package"]
templates_path = ["_templates"]

# Types stand in the signatures only; sphinx puts them beside the documented parameters.
autosummary_generate = True
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
napoleon_google_docstring = False
napoleon_use_rtype = False
python_use_unqualified_type_names = True

# Every reference to something of dbx must resolve. Not looked up are other projects' names, so that the build needs no
# network, and classes inside modules (dbx.ops.values.GroupTable), which occur in type hints only.
nitpicky = True
nitpick_ignore_regex = [(r"py:.*", r"(?!dbx\.).*"), (r"py:class", r"dbx(\.\w+){3,}")]

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


def operator_signature(app, what, name, obj, options, signature, return_annotation):
    """Give an operator the signature of its ``__init__``: its metaclass, which is flax's, takes anything."""
    if what == "class" and issubclass(obj, Operator):
        parameters = list(inspect.signature(obj.__init__).parameters.values())[1:]
        return str(inspect.Signature([p.replace(annotation=p.empty) for p in parameters])), return_annotation
    return None


def spread_tutorials(app, env, docnames):
    """Put tutorials, nearly all the time of a build, far from each other: a process reads pages that follow on."""
    slow = [name for name in docnames if name.startswith("tutorials/") and name != "tutorials/index"]
    pages = [name for name in docnames if name not in slow]
    apart = len(docnames) // max(len(slow), 1)
    for number, name in enumerate(slow):
        pages.insert(apart * number, name)
    docnames[:] = pages


def setup(app):
    app.connect("env-before-read-docs", spread_tutorials)
    app.connect("autodoc-process-signature", operator_signature)
