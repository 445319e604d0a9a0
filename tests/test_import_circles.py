"""No module of ours needs itself: also imports within functions form no circle, so that each can be understood, and
imported, without those that use it.

Imports for types only do not count: they bring in nothing.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import airflow_monai

ROOT = Path(airflow_monai.__file__).parent
ALLOWED: set[tuple[str, str]] = set()
"""(module, what it imports): imports that may close a circle. There is none."""


def named(path: Path, root: Path) -> str:
    parts = path.relative_to(root.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(tree: ast.AST) -> Iterator[ast.Import | ast.ImportFrom]:
    """All within a module, but for those that only a type checker follows."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            yield node
        elif isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            for other in node.orelse:
                yield from imports(other)
        else:
            yield from imports(node)


def graph(root: Path) -> dict[str, set[str]]:
    """Module -> modules of the same package that it imports."""
    modules = {named(path, root): path for path in root.rglob("*.py")}
    found: dict[str, set[str]] = {}
    for module, path in modules.items():
        wanted: set[str] = set()
        for node in imports(ast.parse(path.read_text("utf-8"))):
            names = {name.name for name in node.names}
            if isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{module} imports relatively"
                # a module of a package needs that module; another name of the package needs the package
                full = {f"{node.module}.{name}" for name in names}
                names = {name if name in modules else str(node.module) for name in full}
            wanted |= names & set(modules)
        found[module] = wanted - {module}
    return found


def circle(modules: dict[str, set[str]]) -> list[str]:
    """The modules of one circle, the first at its end again; none where there is none."""
    kept = {module: {name for name in names if (module, name) not in ALLOWED} for module, names in modules.items()}
    try:
        TopologicalSorter(kept).prepare()
    except CycleError as error:
        return list(reversed(error.args[1]))
    return []


def test_no_module_needs_itself() -> None:
    modules = graph(ROOT)
    assert len(modules) > 500 and sum(map(len, modules.values())) > 2000
    assert circle(modules) == []


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"a.py": "import us.b", "b.py": "def f():\n    from us import a"}, {"us.a", "us.b"}),
        ({"a.py": "from us.b import x", "b.py": "try:\n    import us.a\nexcept E:\n    pass"}, {"us.a", "us.b"}),
        ({"a.py": "from us.b import x", "b.py": "if TYPE_CHECKING:\n    import us.a"}, set()),
        ({"a.py": "from us.p import m, x", "p/__init__.py": "from us.a import y", "p/m.py": ""}, {"us.a", "us.p"}),
        ({"a.py": "from us.p import m", "p/__init__.py": "import us.a", "p/m.py": ""}, set()),
        ({"p/__init__.py": "from us.p.m import x", "p/m.py": "from us.p import n", "p/n.py": ""}, set()),
    ],
    ids=["in a function", "in a try", "for types", "of a package", "of a module", "within a package"],
)
def test_a_circle_is_found(tmp_path: Path, files: dict[str, str], expected: set[str]) -> None:
    root = tmp_path / "us"
    for name, text in {"__init__.py": "", **files}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    assert set(circle(graph(root))) == expected
