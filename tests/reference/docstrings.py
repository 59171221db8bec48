"""The sentences behind constants and fields, which Python itself does not keep."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Collection
from types import ModuleType


def read_constants(module: ModuleType) -> dict[str, str]:
    """Name of each constant and function of a module that has a sentence -> that sentence, in the module's order."""
    found: dict[str, str] = {}
    body = ast.parse(inspect.getsource(module)).body
    for node, after in zip(body, [*body[1:], None], strict=True):
        if isinstance(node, ast.FunctionDef):
            found[node.name] = _join(ast.get_docstring(node) or "")
        elif isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
            for target in [node.target] if isinstance(node, ast.AnnAssign) else getattr(node, "targets", []):
                for name in target.elts if isinstance(target, ast.Tuple) else [target]:
                    found[ast.unparse(name)] = _join(str(after.value.value))
    return found


def read_fields(documented: type, names: Collection[str]) -> tuple[str, dict[str, str]]:
    """What a class says of itself, and of its fields: entries `name: text` that begin a line or a sentence.
    An entry ends where the next one begins, or with its paragraph."""
    text = inspect.getdoc(documented) or ""
    if text.startswith(f"{documented.__name__}("):  # made by dataclass
        text = ""
    starts = [match for match in re.finditer(r"(?:^|(?<=\. ))(\w+): +", text, re.MULTILINE) if match[1] in names]
    ends = [*(match.start() for match in starts[1:]), len(text)]
    fields = {
        match[1]: _join(text[match.end() : end].partition("\n\n")[0]) for match, end in zip(starts, ends, strict=False)
    }
    return _join(text[: starts[0].start()] if starts else text), fields


def _join(text: str) -> str:
    return " ".join(text.split())
