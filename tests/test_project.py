"""The tree keeps its own rules."""

import ast
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
ALLOWED_IN_MODELS = {"torch", "numpy", "safetensors", "PIL", "models", "onnx", "onnxruntime", "cv2"}


def imported_names(path: Path) -> set[str]:
    names = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module.split(".")[0])
    return names


def test_models_know_nothing_of_the_service():
    import sys

    for path in (ROOT / "models").rglob("*.py"):
        foreign = imported_names(path) - ALLOWED_IN_MODELS - set(sys.stdlib_module_names)
        assert not foreign, f"{path.relative_to(ROOT)} imports {foreign}"


def trees(folder: str) -> Iterator[tuple[Path, ast.Module]]:
    for path in sorted((ROOT / folder).rglob("*.py")):
        yield path, ast.parse(path.read_text(encoding="utf-8"))


def rooms_that_are_imported(tree: ast.Module) -> set[str]:
    """Of `service`, and beside them `models` and `torch`; imports for type checkers count too."""
    names: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module == "service":
            names += [f"service.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.append(node.module)
    parts = [name.split(".") for name in names]
    rooms = {part[1] for part in parts if part[0] == "service" and len(part) > 1}
    return (rooms - {"__version__"}) | {part[0] for part in parts if part[0] in ("models", "torch")}


def test_rooms_import_what_the_map_says():
    map_of_rooms = (ROOT / "docs/design.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \|([`\w ]*)\| ", map_of_rooms, re.MULTILINE)
    allowed = {room: set(re.findall(r"\w+", imports)) for room, imports in rows}
    found: dict[str, set[str]] = {}
    for path, tree in trees("service"):
        inside = path.relative_to(ROOT / "service")
        room = inside.parts[0] if len(inside.parts) > 1 else inside.stem
        found.setdefault(room, set()).update(rooms_that_are_imported(tree) - {room})
    found.pop("__init__")
    assert found == allowed
    order = list(allowed)
    for room, imports in allowed.items():
        upwards = {other for other in imports if other in order and order.index(other) > order.index(room)}
        assert not upwards, f"{room} imports {upwards}, which stands below it"


def test_a_class_name_stands_for_one_class():
    counted = Counter(
        node.name for _, tree in trees("service") for node in ast.walk(tree) if isinstance(node, ast.ClassDef)
    )
    assert [name for name, count in counted.items() if count > 1] == []


@pytest.mark.parametrize("folder", ["service", "models"])
def test_nobody_reaches_into_another_package(folder):
    """A name with an underscore is its own class' or module's: reached by `self`, or nearby."""
    for path, tree in trees(folder):
        own = {node.attr for node in ast.walk(tree) if reaches(node, own_only=True)}
        own |= {
            node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        }
        foreign = {node.attr for node in ast.walk(tree) if reaches(node, own_only=False)} - own
        assert not foreign, f"{path.relative_to(ROOT)} reaches for {foreign}"


def reaches(node: ast.AST, own_only: bool) -> bool:
    # Documented for everybody's use, its name notwithstanding.
    if isinstance(node, ast.Attribute) and ast.unparse(node) == "os._exit":
        return False
    if not isinstance(node, ast.Attribute) or not node.attr.startswith("_") or node.attr.startswith("__"):
        return False
    mine = isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")
    return mine == own_only
