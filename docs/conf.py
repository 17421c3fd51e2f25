"""The documentation site: Sphinx reads the pages beside this file and those that `generate` writes from the code. Built by `make docs`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))  # the generators lie beside this file

import docstrings  # noqa: E402
import generate  # noqa: E402
import tutelage  # noqa: E402

project = "tutelage"
author = "the authors of tutelage"
copyright = "the authors of tutelage, Apache-2.0"
version = release = tutelage.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_design", "sphinx_copybutton"]
exclude_patterns = ["benchmarks.md"]  # included by a page that is there without it, too
nitpicky = True  # a name that leads nowhere is an error; what is not ours is let through in `outside`
nitpick_ignore = [("py:class", f"tutelage.objectives.targets.{name}") for name in ("LabelMix", "PermutedDark")]  # built by functions
smartquotes = False  # messages stand as they are printed
default_role = "code"  # docstrings put names into single backticks

myst_enable_extensions = ["colon_fence", "deflist", "fieldlist", "attrs_block", "attrs_inline"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented_params"
autodoc_typehints_format = "short"
autodoc_class_signature = "mixed"
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_custom_sections = list(docstrings.SECTIONS)

html_theme = "furo"
html_title = "tutelage"
html_static_path = ["_static"]
html_css_files = ["style.css"]
html_js_files = [("filter.js", {"defer": "defer"})]
html_show_sphinx = False
html_copy_source = False
html_theme_options = {"navigation_with_keys": True}
# fonts and colours of the system: nothing is fetched from anywhere
pygments_style = "friendly"
pygments_dark_style = "monokai"

copybutton_prompt_text = "$ "
copybutton_only_copy_prompt_lines = True
copybutton_line_continuation_character = "\\"


def outside(_app: Sphinx, _env: Any, node: nodes.Element, found: nodes.Node) -> nodes.Node | None:
    """Let a name of another project stand as plain text; our own must lead somewhere."""
    return None if str(node.get("reftarget", "")).startswith("tutelage") or node.get("refdomain") != "py" else found


def setup(app: Sphinx) -> None:
    """Connect the generators."""
    app.add_config_value("results", str(generate.scoreboard.RESULTS), "env", str, "where the results of reproductions lie")
    app.connect("builder-inited", lambda app: generate.write(Path(app.srcdir), Path(app.config.results)))
    app.connect("autodoc-process-docstring", docstrings.arrange, priority=100)  # before napoleon
    app.connect("missing-reference", outside)
