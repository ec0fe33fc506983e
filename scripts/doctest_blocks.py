"""For the API reference: doctests become blocks of code, since docstrings are Markdown there (mkdocs.yml)."""

import re
from typing import Any

import griffe


class DoctestBlocks(griffe.Extension):
    """Fences every doctest of a docstring: from its first prompt to the next empty line."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        if obj.docstring:
            text = obj.docstring.value
            obj.docstring.value = re.sub(r"^>>> .*(?:\n.+)*", r"```pycon\n\g<0>\n```", text, flags=re.M)
