"""The terminal as its user sees it: what is on stdout, what on stderr, and the exit code."""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from graphopt.cli import progress
from graphopt.cli.group import cli

HERE = Path(__file__).parent
Run = Callable[..., Result]


def invoke(*arguments: object, input: str | None = None) -> Result:
    return CliRunner().invoke(cli, [str(a) for a in arguments], prog_name="graphopt", input=input)


@pytest.fixture(autouse=True)
def never_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """No stage is slow enough for a line of progress: what is on stderr is meant."""
    monkeypatch.setattr(progress, "SLOW_S", float("inf"))


@pytest.fixture(scope="session")
def run() -> Run:
    """Run a command in this process."""
    return invoke


@pytest.fixture(scope="session")
def source() -> Callable[[str], str]:
    """A SOURCE of cli_sources.py."""
    return lambda name: f"{HERE / 'cli_sources.py'}:{name}"


@pytest.fixture(scope="session")
def compiled(
    tmp_path_factory: pytest.TempPathFactory, source: Callable[[str], str]
) -> Callable[[str], Path]:
    """The artifact of a source, compiled once. Not to be written to."""
    pytest.importorskip("torch")
    made: dict[str, Path] = {}

    def compile_once(name: str) -> Path:
        if name not in made:
            made[name] = tmp_path_factory.mktemp("built") / name
            done = invoke("compile", source(name), "-o", made[name], "-q")
            assert (done.exit_code, done.output) == (0, "")
        return made[name]

    return compile_once


@pytest.fixture(scope="session")
def built(compiled: Callable[[str], Path]) -> Path:
    return compiled("net")


@pytest.fixture
def artifact(built: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(built, tmp_path / "net"))


@pytest.fixture
def resealed() -> Callable[[Path], None]:
    """Makes the checksums those of the files as they are: damage that no checksum shows."""

    def reseal(folder: Path) -> None:
        path = folder / "manifest.json"
        manifest = json.loads(path.read_text())
        for name, entry in manifest["files"].items():
            content = (folder / name).read_bytes()
            entry.update(size_bytes=len(content), sha256=hashlib.sha256(content).hexdigest())
            assert not entry["tree"], "a large file would need its tree digest, too"
        path.write_text(json.dumps(manifest))

    return reseal


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Installs a distribution: its name, its module's code, and its manifest as code."""
    from graphopt.plugins import registry

    modules = []

    def install(name: str, code: str, manifest: str) -> None:
        module = name.replace("-", "_")
        modules.append(module)
        folder = tmp_path / "site"
        info = folder / f"{module}-2.5.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 2.5\n")
        (info / "entry_points.txt").write_text(f"[graphopt.plugins]\n{name} = {module}:PLUGIN\n")
        head = "from graphopt.plugins import Plugin\n"
        (folder / f"{module}.py").write_text(f"{head}PLUGIN = {manifest}\n{code}")
        monkeypatch.syspath_prepend(str(folder))
        registry.cache_clear()

    yield install
    monkeypatch.undo()
    for module in modules:
        sys.modules.pop(module, None)
    registry.cache_clear()
