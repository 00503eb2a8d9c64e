"""The tree keeps its own rules."""

import ast
from pathlib import Path

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
