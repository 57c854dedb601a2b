"""dvc.yaml, params.yaml, the README and the code say the same."""

import ast
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from stages.params import load_params

YAML_12 = YAML(typ="safe", pure=True)
PIPELINE = YAML_12.load(Path("dvc.yaml").read_text())
PARAMS = YAML_12.load(Path("params.yaml").read_text())
README = Path("README.md").read_text()

SHARED = ["cli", "params", "geo", "shards", "figures", "cluster"]
STAGE_FOLDERS = [
    "world",
    "download",
    "shard",
    "features",
    "variogram",
    "train",
    "evaluate",
    "report",
    "predict",
    "study",
]
ORDER = [*SHARED, *STAGE_FOLDERS]  # imports point to the left
SOURCES = ["world", "hub", "mirror"]
HOW_NOT_WHAT = "cluster"  # a section on which no result depends: no stage is to run again because of it


def stages_of_the_pipeline():
    for name, stage in PIPELINE["stages"].items():
        yield name, stage.get("do", stage)


def module_file(name):
    """File of a dotted module of ours, or None for one of others."""
    path = Path(*name.split("."))
    return next((p for p in (path.with_suffix(".py"), path / "__init__.py") if p.is_file()), None)


def imported_files(path):
    files = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import"
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        else:
            continue
        files |= {module_file(name) for name in names if name.split(".")[0] == "stages"}
    return files - {None, Path("stages/__init__.py")}


def files_used_by(entry):
    """Every file of ours that an entry point imports, itself included, however indirectly."""
    used, waiting = set(), {entry}
    while waiting:
        path = waiting.pop()
        used.add(path)
        waiting |= imported_files(path) - used
    return used


def test_every_stage_depends_on_every_module_that_it_imports():
    for name, stage in stages_of_the_pipeline():
        module = re.match(r"python -m (\S+)", stage["cmd"])[1]
        entry = module_file(f"{module}.__main__") or module_file(module)
        used = files_used_by(entry)
        declared = [Path(dep) for dep in stage["deps"] if dep.startswith("stages/")]
        missing = {path for path in used if not any(path.is_relative_to(dep) for dep in declared)}
        assert not missing, f"stage {name} imports {sorted(map(str, missing))}: add to its deps"
        idle = {dep for dep in declared if not any(path.is_relative_to(dep) for path in used)}
        assert not idle, f"stage {name} does not import {sorted(map(str, idle))}: drop from its deps"


def test_imports_run_one_way():
    for path in Path("stages").rglob("*.py"):
        part = path.relative_to("stages").parts[0].removesuffix(".py")
        if part == "__init__":
            continue
        for imported in imported_files(path):
            other = imported.relative_to("stages").parts[0].removesuffix(".py")
            assert ORDER.index(other) <= ORDER.index(part), f"{path} imports {imported}, which comes later"


def leaves(values, prefix=""):
    for key, value in values.items():
        if isinstance(value, dict) and value:
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}"


def declared_params(stage):
    for param in stage.get("params", []):
        if "${data.source}" in param:
            yield from (param.replace("${data.source}", source) for source in SOURCES)
        elif "${item}" in param:
            yield from (param.replace("${item}", key) for key in sections_of_losses())
        else:
            yield param


def sections_of_losses():
    return [key for key, value in PARAMS["train"].items() if isinstance(value, dict)]


def test_every_param_is_declared_by_a_stage_and_every_declared_param_exists():
    declared = {param for _, stage in stages_of_the_pipeline() for param in declared_params(stage)}
    for key in leaves(PARAMS):
        if not key.startswith(f"{HOW_NOT_WHAT}."):
            assert any(f"{key}.".startswith(f"{param}.") for param in declared), f"no stage declares {key}"
    for param in declared:
        assert any(f"{key}.".startswith(f"{param}.") for key in leaves(PARAMS)), f"params.yaml has no {param}"


def test_every_stage_declares_the_sections_that_its_code_reads():
    for name, stage in stages_of_the_pipeline():
        if name == "params":
            continue
        folder = Path(*re.match(r"python -m (\S+)", stage["cmd"])[1].split("."))
        sections = {param.split(".")[0] for param in declared_params(stage)}
        for path in folder.rglob("*.py"):
            read = set(re.findall(rf"\b(?:params|load_params\(\))\.({'|'.join(PARAMS)})\b", path.read_text()))
            read.discard(HOW_NOT_WHAT)
            assert read <= sections, f"{path} reads {sorted(read - sections)}, which stage {name} does not declare"


def test_every_loss_has_its_params_section():
    from stages.train.losses import LOSSES

    assert sorted(sections_of_losses()) == sorted(LOSSES)


@pytest.fixture
def scratch_repository(tmp_path):
    for name in ("dvc.yaml", "params.yaml", "stages", ".dvcignore"):
        source = Path(name)
        copy = shutil.copytree if source.is_dir() else shutil.copy
        copy(source, tmp_path / name)
    (tmp_path / ".dvc").mkdir()
    shutil.copy(".dvc/config", tmp_path / ".dvc")
    (tmp_path / ".dvc" / "config.local").write_text("[core]\n    no_scm = true\n")
    return tmp_path


def dry_run(folder, overrides):
    values = YAML_12.load((folder / "params.yaml").read_text())
    for override in overrides:
        key, value = override.split("=")
        *sections, last = key.split(".")
        section = values
        for part in sections:
            section = section[part]
        assert last in section, f"params.yaml has no {key}"
        section[last] = YAML_12.load(value)
    YAML_12.dump(values, folder / "params.yaml")
    load_params(folder / "params.yaml")
    # --force: without it DVC 3.67 looks for the run cache of stages whose inputs a dry run has not made.
    command = ["dvc", "repro", "--dry", "--force"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout


def test_the_readmes_line_for_osv5m_plans_the_whole_pipeline(scratch_repository):
    line = re.search(r"^dvc exp run (.*data\.source=hub(?:.*\\\n)*.*)$", README, re.MULTILINE)[1]
    overrides = re.findall(r"-S '?([^\s']+)", line)
    plan = dry_run(scratch_repository, overrides)
    commands = re.findall(r"^> (.*)", plan, re.MULTILINE)
    losses = PARAMS["train"]["losses"]
    assert commands[:3] == ["python -m stages.params", "python -m stages.download", "python -m stages.shard"]
    assert {f"python -m stages.train {loss}" for loss in losses} <= set(commands)
    assert commands[-1] == "python -m stages.report"


def test_a_mirror_is_one_params_change_away(scratch_repository):
    assert "python -m stages.report" in dry_run(scratch_repository, ["data.source=mirror", "data.mirror.url=/photos"])


@pytest.mark.parametrize("losses", [[], ["infonce"], ["semivariogram", "infonce"]])
def test_the_losses_to_refine_may_be_any_or_none(scratch_repository, losses):
    plan = dry_run(scratch_repository, [f"evaluate.refine={losses}"])
    commands = {f"python -m stages.evaluate {loss}_refined" for loss in losses}
    assert set(re.findall(r"^> (.*_refined)$", plan, re.MULTILINE)) == commands


def test_the_readme_has_a_line_for_everything_in_the_house():
    for path in sorted(Path("stages").iterdir()):
        if path.suffix == ".py" or path.is_dir():
            name = path.name + ("/" if path.is_dir() else "")
            if not name.startswith("__"):
                assert re.search(rf"^\s+{re.escape(name)}\s+\S", README, re.MULTILINE), (
                    f"the README's tree has no {name}"
                )
