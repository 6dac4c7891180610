"""The floors: imports go down only, and the library never needs a user interface."""

import ast
import re
import subprocess
import sys
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FLOORS = (  # of mode_core, lowest first; a part that is named stands on its own floor, not on its package's
    (
        *("bundled", "csv_files", "errors", "files", "json_files", "jobs", "memory", "modalities", "on_first_use"),
        *("settings", "versions", "yaml_files", "quantization.widths", "quantization.quantizers"),
    ),
    ("statistics",),
    ("quantization.sizes", "quantization.settings"),
    ("samples", "models"),
    ("importance",),
    ("allocation", "traffic"),
    ("request",),
    ("prediction",),
    ("probing",),
    ("quantization",),
    ("runs", "run"),
    ("calibration", "evaluation", "export"),
    ("comparison",),
    ("cli",),
)
USER_INTERFACE = {"streamlit", "plotly"}


@cache
def nodes_of(path: Path) -> tuple[ast.AST, ...]:
    """All of a file's syntax; each file is parsed once."""
    return tuple(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))


@cache
def imported(path: Path) -> frozenset[str]:
    """Every module that a file imports, wherever in it: at its head, inside functions, and for type checkers."""
    return frozenset().union(*(imported_by(node) for node in nodes_of(path)))


def imported_by(node: ast.AST) -> set[str]:
    if isinstance(node, ast.Import):
        return {alias.name for alias in node.names}
    if isinstance(node, ast.ImportFrom) and node.module:
        return {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return set()


def floor(module: str) -> int | None:
    """Height of a part of mode_core, 0 the lowest; None where no floor names it."""
    parts = module.split(".")[1:]
    if not parts or parts[0].startswith("__"):
        return None
    names = {".".join(parts[:2]), parts[0]}
    found = [height for height, level in enumerate(FLOORS) if names & set(level)]
    return found[0] if found else None


def files_of(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def test_mode_core_in_a_fresh_process_leaves_the_interface_out():
    """Importing every part of mode_core must pull in neither streamlit nor plotly."""
    modules = [name for path in files_of("mode_core") if not (name := module_of(path)).endswith("__main__")]
    code = (
        "import importlib, sys\n"
        f"[importlib.import_module(name) for name in {modules!r}]\n"
        f"print(sorted({USER_INTERFACE!r} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"


def test_the_command_line_waits_for_no_model_library():
    """Verbs that only compute answer in under a second; those that run the model import what they need themselves."""
    code = "import sys, mode_core.cli, mode_core.export; print(sorted({'torch', 'transformers'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.strip() == "[]", done.stderr


def test_imports_go_down_only():
    """Within mode_core, what a file imports stands on its own floor or below: late imports and those for types too."""
    upwards = []
    for path in files_of("mode_core"):
        module = module_of(path)
        own = floor(module)
        if own is not None:
            below = {name: floor(name) for name in imported(path) if name.startswith("mode_core.")}
            upwards += [
                f"{module} imports {name}" for name, height in below.items() if height is not None and height > own
            ]
    assert not upwards


def test_no_two_modules_need_each_other():
    """A late import hides a circle from Python, not from here."""
    modules = {module_of(path) for path in files_of("mode_core")}
    needs: dict[str, set[str]] = {name: set() for name in modules}
    for path in files_of("mode_core"):
        for node in nodes_of(path):
            names = imported_by(node)
            if isinstance(node, ast.ImportFrom) and names - {node.module} <= modules:
                names = names - {node.module}  # modules of a package, and nothing else that it offers
            needs[module_of(path)] |= names & modules
    TopologicalSorter(needs).prepare()  # CycleError names the circle


def test_every_part_of_mode_core_stands_on_a_floor():
    parts = [path for path in (ROOT / "mode_core").iterdir() if not path.name.startswith("_")]
    assert not [path.name for path in parts if path.suffix != ".md" and floor(f"mode_core.{path.stem}") is None]
    named = {name.replace(".", "/") for level in FLOORS for name in level}
    gone = [name for name in named if not any((ROOT / "mode_core" / f"{name}{end}").exists() for end in ("", ".py"))]
    assert not gone, "floors that no module stands on any more"


@pytest.mark.parametrize("path", files_of("mode_core"), ids=lambda path: str(path.relative_to(ROOT)))
def test_mode_core_imports_no_upper_floor(path: Path):
    upper = {name for name in imported(path) if name.split(".")[0] in USER_INTERFACE | {"dashboard", "pages", "tests"}}
    assert not upper, f"{path.name} imports {upper}"


def test_allocation_and_importance_need_no_model():
    """What a person drags is answered without torch: these floors must not import it."""
    code = "import sys, mode_core.importance, mode_core.allocation; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.strip() == "False", done.stdout + done.stderr


@pytest.mark.parametrize("path", files_of("dashboard/charts"), ids=lambda path: path.name)
def test_charts_do_not_import_streamlit(path: Path):
    assert not {name for name in imported(path) if name.split(".")[0] == "streamlit"}


PAGES = ("dashboard.parts", "dashboard.shell", "pages.")
ABOVE = {"state": PAGES, "jobs": PAGES} | dict.fromkeys(
    ("charts", "components", "words"), (*PAGES, "dashboard.state", "dashboard.jobs")
)


@pytest.mark.parametrize("room", ABOVE)
def test_what_pages_share_knows_no_page(room: str):
    for path in files_of(f"dashboard/{room}"):
        upper = {name for name in imported(path) if name.startswith(ABOVE[room])}
        assert not upper, f"{path.relative_to(ROOT)} imports {upper}"


def test_only_the_entry_patches_the_import_path():
    patched = [
        path.relative_to(ROOT)
        for package in ("mode_core", "dashboard", "pages")
        for path in files_of(package)
        if "sys.path" in path.read_text(encoding="utf-8")
    ]
    assert patched in ([], [Path("dashboard/app.py")])


def test_the_top_level_is_the_users():
    """Only the seven entries that the project is laid out in, LICENSE, pyproject.toml and dot-files are tracked."""
    listed = subprocess.run(["git", "ls-files"], capture_output=True, text=True, cwd=ROOT)
    if listed.returncode:
        pytest.skip("not a git checkout")
    top = {line.split("/")[0] for line in listed.stdout.splitlines()}
    expected = {"dashboard", "mode_core", "pages", "tests", "sample_data", "requirements.txt", "README.md"}
    assert {name for name in top if not name.startswith(".")} <= expected | {"pyproject.toml", "LICENSE"}


NAMES_OF_OTHERS = (  # files where these words are the parts of a chat, columns, or fields of other software's files
    *("samples/", "models/encoding.py", "models/prompt_spans.py", "calibration/gallery.py", "runs/released_json.py"),
    *("modalities.py", "quantization/sizes.py", "export/auto_round_recipe.py", "models/template_bounds.py"),
    "models/media.py",
)


def test_kinds_of_token_are_named_in_one_place():
    """ "text", "vision", "audio", "key" and "redundant" as literals are what `mode_core.modalities` is for."""
    strange = []
    for path in files_of("mode_core"):
        name = path.relative_to(ROOT / "mode_core").as_posix()
        if not name.startswith(NAMES_OF_OTHERS):
            words = {
                node.value for node in nodes_of(path) if isinstance(node, ast.Constant) and isinstance(node.value, str)
            }
            strange += [
                (name, word)
                for word in sorted(
                    words & {"text", "vision", "key", "redundant", "audio", "key_audio", "redundant_audio"}
                )
            ]
    assert not strange


def test_the_map_of_the_code_names_files_that_there_are_and_every_format():
    """Where to add what: paths in `mode_core/README.md` exist, and no file's `FORMAT` is missing in its row."""
    text = (ROOT / "mode_core" / "README.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`((?:\w+/)+(?:\w+\.(?:py|md))?)`", text))
    assert len(named) > 50
    assert not [name for name in named if not (ROOT / name).exists() and not (ROOT / "mode_core" / name).exists()]
    formats = {
        path.relative_to(ROOT / "mode_core").as_posix()
        for path in files_of("mode_core")
        if re.search(r"^FORMAT\b.* = ", path.read_text(encoding="utf-8"), re.MULTILINE)
    }
    (row,) = [line for line in text.splitlines() if line.startswith("| add a version of a file's format")]
    assert formats <= named and all(f"`{name}`" in row for name in formats)
