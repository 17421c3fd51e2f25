"""The code of a net as one file that stands alone: the definitions that a function needs, taken from the files they stand in.

Starting from a function, the names that it uses are looked up in its file: what is defined there is taken along, what is imported from
tutelage is looked up in the file that defines it, and any other import is kept. Nothing runs; what cannot be found this way (names made at
run time, imports inside functions from tutelage) shows when the file is tried.
"""

from __future__ import annotations

import ast
import builtins
import importlib
import importlib.util
import sys
from collections.abc import Collection, Iterable
from pathlib import Path

from tutelage.errors import BadInput

OURS = "tutelage"
MARKS = frozenset({"takes"})
"""Decorators that say something to us alone; they are left out."""


class Bundle:
    """Definitions and imports gathered for one file.

    Args:
        name: how messages call what is exported.

    Raises:
        BadInput: two files use one name for two things, or a name that is asked for is not defined.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.imports: dict[str, str] = {}
        self.definitions: list[str] = []
        self._made: dict[str, tuple[Path, str]] = {}
        self._files: dict[Path, _File] = {}
        self._inner: set[str] = set()

    def take(self, path: Path, name: str, without: Collection[str] = ()) -> None:
        """Take a definition of a file, and what it needs, before it.

        Args:
            path: the file.
            name: of a function, a class or a constant in it.
            without: methods of a class that are left out.
        """
        file = self._files.setdefault(path, _File(path))
        if self._made.get(name) == (path, name):
            return
        statement = file.definitions.get(name)
        if statement is None:
            self._take_imported(file, name)
            return
        if name in self._made or name in self.imports:
            raise BadInput(f"{self.name} cannot be written as one file: {name!r} means two things in it; export it with --to onnx")
        if isinstance(statement, ast.ClassDef) and without:
            statement.body = [s for s in statement.body if getattr(s, "name", None) not in without]
        self._made[name] = (path, name)
        self._inner |= _packages_inside(statement, path, name)
        for used in _names(statement):
            if used != name and (used in file.definitions or used in file.imports):
                self.take(path, used)
        self.definitions.append(file.text(statement))

    def _take_imported(self, file: _File, name: str) -> None:
        if name not in file.imports:
            raise BadInput(f"{file.path} does not define {name!r}, which {self.name} needs")
        module, original = file.imports[name]
        if module.partition(".")[0] == OURS:
            if original is None:
                raise BadInput(f"{file.path} imports {module} as a whole; import the names that {self.name} needs from it")
            if original != name:
                raise BadInput(f"{file.path} imports {original} of {module} as {name}; import it under its own name")
            self.take(_source_of(module, original), original)
            return
        if original is None:
            line = f"import {module}" if name == module.partition(".")[0] else f"import {module} as {name}"
        else:
            line = f"from {module} import {original}" + ("" if name == original else f" as {name}")
        if self.imports.setdefault(name, line) != line or name in self._made:
            raise BadInput(f"{self.name} cannot be written as one file: {name!r} means two things in it; export it with --to onnx")

    def has(self, name: str) -> bool:
        """Whether a name is taken."""
        return name in self._made or name in self.imports

    def packages(self) -> list[str]:
        """The packages that are imported from, apart from Python's own, sorted."""
        found = {line.split()[1].partition(".")[0] for line in self.imports.values()}
        return sorted((found | self._inner) - set(sys.stdlib_module_names))

    def text(self) -> str:
        """Imports, then definitions."""
        direct = sorted(line for line in self.imports.values() if line.startswith("import"))
        return "\n\n\n".join(["\n".join([*direct, *_merged(self.imports.values())]), *self.definitions]) + "\n"


class _File:
    """What a file defines and imports at its top."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lines = path.read_text(encoding="utf8").splitlines()
        self.definitions: dict[str, ast.stmt] = {}
        self.imports: dict[str, tuple[str, str | None]] = {}
        self.methods: dict[str, list[ast.stmt]] = {}
        for statement in ast.parse("\n".join(self.lines)).body:
            if isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
                self.definitions[statement.name] = statement
                self.methods[statement.name] = list(statement.body)
            elif isinstance(statement, (ast.Assign, ast.AnnAssign)):
                targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
                for target in targets:
                    for each in ast.walk(target):
                        if isinstance(each, ast.Name) and isinstance(each.ctx, ast.Store):
                            self.definitions[each.id] = statement
            elif isinstance(statement, ast.Import):
                for alias in statement.names:
                    self.imports[alias.asname or alias.name.partition(".")[0]] = (alias.name, None)
            elif isinstance(statement, ast.ImportFrom) and statement.module and statement.level == 0:
                for alias in statement.names:
                    self.imports[alias.asname or alias.name] = (statement.module, alias.name)

    def text(self, statement: ast.stmt) -> str:
        """A statement as it stands, comments and all, without decorators that are ours alone."""
        decorators = getattr(statement, "decorator_list", [])
        first = min([statement.lineno, *(d.lineno for d in decorators)])
        kept = set(range(first, (statement.end_lineno or first) + 1))
        for decorator in decorators:
            if _called(decorator) in MARKS:
                kept -= set(range(decorator.lineno, (decorator.end_lineno or decorator.lineno) + 1))
        if isinstance(statement, ast.ClassDef):
            before = [s.end_lineno or 0 for s in statement.body]
            for each in self.methods.get(statement.name, []):
                if each not in statement.body:
                    start = max((line for line in before if line < each.lineno), default=each.lineno - 1) + 1
                    kept -= set(range(start, (each.end_lineno or 0) + 1))
        return "\n".join(self.lines[n - 1] for n in sorted(kept))


def _names(statement: ast.stmt) -> list[str]:
    """The names that a statement uses, in order, apart from Python's own; those of decorators that are left out do not count."""
    left_out = [d for d in getattr(statement, "decorator_list", []) if _called(d) in MARKS]
    unseen = {id(node) for d in left_out for node in ast.walk(d)}
    used = [n.id for n in ast.walk(statement) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load) and id(n) not in unseen]
    return [n for n in dict.fromkeys(used) if not hasattr(builtins, n)]


def _packages_inside(statement: ast.stmt, path: Path, name: str) -> set[str]:
    """The packages that a definition imports inside itself."""
    found = set()
    for node in ast.walk(statement):
        modules = [a.name for a in node.names] if isinstance(node, ast.Import) else []
        modules += [node.module] if isinstance(node, ast.ImportFrom) and node.module else []
        found |= {module.partition(".")[0] for module in modules}
    if OURS in found:
        raise BadInput(f"{path} imports tutelage inside {name}; import it at the top of the file, or export with --to onnx")
    return found


def _called(decorator: ast.expr) -> str:
    inner = decorator.func if isinstance(decorator, ast.Call) else decorator
    return inner.id if isinstance(inner, ast.Name) else ""


def _source_of(module: str, name: str) -> Path:
    """The file of ours that defines a name, which a package may only pass on."""
    found = getattr(importlib.import_module(module), name)
    defined = getattr(found, "__module__", None)
    holder = defined if isinstance(defined, str) and defined.partition(".")[0] == OURS else module
    spec = importlib.util.find_spec(holder)
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin)


def _merged(lines: Iterable[str]) -> list[str]:
    """Lines of `from X import a` with one line a module."""
    by_module: dict[str, list[str]] = {}
    for line in lines:
        if line.startswith("from"):
            module, _, name = line.removeprefix("from ").partition(" import ")
            by_module.setdefault(module, []).append(name)
    return [f"from {module} import {', '.join(sorted(names))}" for module, names in sorted(by_module.items())]
