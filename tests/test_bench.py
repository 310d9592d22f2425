"""What the bench draws and writes of a race, without the race."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from graphopt.check.peers import Lap, as_json
from graphopt.check.peers.table import table

pytest.importorskip("matplotlib")

from bench.__main__ import main
from bench.picture import draw
from bench.readme import END, START, fill


@pytest.fixture
def results() -> dict[str, list[Lap]]:
    def lap(engine: str, seconds: float) -> Lap:
        return Lap(engine, rounds=[[seconds]], open_s=0.5, peak_bytes=70_000_000)

    return {
        "small": [lap("graphopt", 0.001), lap("eager", 0.004), Lap("openvino", failure="no")],
        "large": [lap("graphopt", 0.1), lap("eager", 0.05)],
    }


def test_the_picture_has_every_time_and_our_lead(
    results: dict[str, list[Lap]], tmp_path: Path
) -> None:
    draw(results, tmp_path / "a.svg", title="1 thread")
    shown = re.findall(r"<!-- (.*?) -->", (tmp_path / "a.svg").read_text())
    assert {"1 ms   4.00x", "4 ms", "100 ms   0.50x", "50 ms"} <= set(shown)
    assert {"small", "large", "graphopt", "eager", "openvino", "1 thread"} <= set(shown)


def test_results_are_drawn_anew_without_a_race(
    results: dict[str, list[Lap]], tmp_path: Path
) -> None:
    machine = {"cpu": "x", "day": "2026-01-01"}
    (tmp_path / "results.json").write_text(json.dumps({"machine": machine, **as_json(results)}))
    done = CliRunner().invoke(main, ["--add", "--out", str(tmp_path)])
    assert done.exit_code == 0, done.output
    text = (tmp_path / "results.md").read_text()
    assert "| small | 1.00 | 4.00 | fails | 4.00 |" in text
    assert "### Peak memory of the process, MB" in text
    assert "| large | 70 | 70 |  |" in text
    assert (tmp_path / "results.svg").is_file()


def test_held_out_models_have_a_list_of_their_own() -> None:
    done = CliRunner().invoke(main, ["--held-out", "resnet50"])
    assert done.exit_code == 2
    assert "there is no model 'resnet50'; choose from vgg" in done.output.replace("\n", " ")
    done = CliRunner().invoke(main, ["--held-out", "--readme"])
    assert done.exit_code == 2
    assert "--readme shows the zoo" in done.output


def test_a_model_that_is_not_there_is_refused_before_any_race() -> None:
    done = CliRunner().invoke(main, ["resnet50", "vit_b16"])
    assert done.exit_code == 2
    assert "there is no model 'vit_b16'; choose from resnet50" in done.output.replace("\n", " ")


def test_adding_to_nothing_is_refused(tmp_path: Path) -> None:
    done = CliRunner().invoke(main, ["--add", "--out", str(tmp_path)])
    assert done.exit_code == 2
    assert "results.json; leave --add out to begin one" in done.output.replace("\n", " ")


def test_means_are_over_equals_and_over_all(results: dict[str, list[Lap]]) -> None:
    assert "| geometric mean, where all took part | | | | 4.00 |" in table(results)
    assert "| geometric mean of all | | | | 1.41 |" in table(results)
    assert table({"small": results["small"]}).count("geometric mean") == 1


def test_the_readme_says_when_it_was_measured(
    results: dict[str, list[Lap]], tmp_path: Path
) -> None:
    page = tmp_path / "README.md"
    page.write_text(f"before\n{START}\nold\n{END}\nafter\n")
    fill(page, results, day="2026-01-02", machine="a machine, 1 thread", picture="x.svg")
    text = page.read_text()
    assert text.startswith(f"before\n{START}\nMeasured on 2026-01-02, a machine, 1 thread.\n")
    assert text.endswith(f"![a machine, 1 thread](x.svg)\n{END}\nafter\n")
    assert "old" not in text
