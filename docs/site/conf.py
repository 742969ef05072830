"""Sphinx's configuration. ``stage.py`` writes what it reads; nothing on the pages comes from another host."""

from __future__ import annotations

import sys

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

import inf2kit

project = "inf2kit"
release = version = inf2kit.__version__
html_title = f"inf2kit {release}"
html_show_copyright = False
html_copy_source = False

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_click",
    "sphinx_copybutton",
    "sphinx_design",
]
html_theme = "furo"
# Mermaid is installed beside Sphinx, as docs/site/package.json pins it.
html_static_path = ["static", f"{sys.prefix}/node_modules/@mermaid-js/tiny/dist"]
html_css_files = ["site.css"]
html_theme_options = {"navigation_with_keys": True}

# Anchors as GitHub makes them, since the same links must work there.
myst_heading_anchors = 6
myst_enable_extensions = ["colon_fence"]
myst_fence_as_directive = ["mermaid"]
# The notebooks are executed by the tests; here their saved outputs are shown.
nb_execution_mode = "off"
nb_merge_streams = True
nb_render_markdown_format = "myst"

highlight_language = "none"
copybutton_prompt_text = "$ "
copybutton_exclude = ".linenos, .go"

nitpicky = True
# Names of the standard library and of others have no page here; ours must have one.
nitpick_ignore_regex = [
    ("py:.*", r"(?!inf2kit\.).*"),
    ("py:class", r"inf2kit\.(package\.manifest\.Manifest|serving\.settings\.Settings)"),
]
autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
toc_object_entries_show_parents = "hide"
# Two dashes are an option.
smartquotes = False
napoleon_numpy_docstring = False
napoleon_use_rtype = False


class Mermaid(SphinxDirective):
    """A diagram, drawn in the browser."""

    has_content = True

    def run(self) -> list[nodes.Node]:
        """Leave the source to the script."""
        source = nodes.Text("\n".join(self.content)).astext()
        escaped = source.replace("&", "&amp;").replace("<", "&lt;")
        return [nodes.raw("", f'<div class="mermaid" role="img">{escaped}</div>', format="html")]


def _add_mermaid(app: Sphinx, name: str, template: str, context: dict[str, object], tree: object) -> None:
    if 'class="mermaid"' in str(context.get("body", "")):
        app.add_js_file("mermaid.tiny.js")
        app.add_js_file("mermaid.js")


def _mark_code(app: Sphinx, what: str, name: str, value: object, options: object, lines: list[str]) -> None:
    """Docstrings have code as an indented paragraph below prose."""
    marked = []
    for number, line in enumerate(lines):
        before = next((each for each in reversed(lines[:number]) if each.strip()), " ")
        if line.startswith("    ") and not lines[number - 1].strip() and not before.startswith(" "):
            marked += [".. code-block:: python", ""]
        marked.append(line)
    lines[:] = marked


def _draw_dashes(app: Sphinx, tree: nodes.document, name: str) -> None:
    """Put dashes between the names and meanings of parameters, as smartquotes would."""
    for text in list(tree.findall(nodes.Text)):
        if text == " -- ":
            text.parent.replace(text, nodes.Text(" \N{EN DASH} "))


def setup(app: Sphinx) -> None:
    """Sphinx calls this."""
    app.add_directive("mermaid", Mermaid)
    # Before napoleon, which reads sections such as "Args:".
    app.connect("autodoc-process-docstring", _mark_code, priority=400)
    app.connect("doctree-resolved", _draw_dashes)
    app.connect("html-page-context", _add_mermaid)
