"""Which versions work: both ends of our ranges, TRL's releases between them, what installs beside us.

    python benchmarks/compatibility.py --lanes floor,newest --write  # make test-floor and make test-newest
    python benchmarks/compatibility.py --trl 1.10.0,1.12.0 --write   # more releases of TRL
    python benchmarks/compatibility.py --readme 1.10.0,1.16.0 --write  # README's first example, compared
    python benchmarks/compatibility.py --beside unsloth,axolotl --write

A lane is the tests that `make` names in LANE, run with the versions of constraints-NAME.txt; a release of TRL
is laid over the newest lane's environment. What is run anew replaces its rows in docs/compatibility.json;
--write puts all of them into docs/compatibility.md. Needs a package index; nothing is installed for --beside.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import zipfile
from datetime import UTC, datetime
from email.parser import Parser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from pages import write_between
from safetensors.numpy import load_file

ROOT = Path(__file__).parents[1]
PAGE, DATA = ROOT / "docs" / "compatibility.md", ROOT / "docs" / "compatibility.json"
SHOWN = ("trl", "transformers", "huggingface-hub", "accelerate", "peft", "datasets")
ROOMS = ("train", "methods", "run", "cli", "publish")
PIP = ("-m", "pip", "--disable-pip-version-check")
NEWEST = ROOT / ".venv-newest" / "bin" / "python"


def made_lane(name: str, again: bool) -> dict[str, Any]:
    """One end of the versions: what `make test-NAME` reported, which is run first if `again`."""
    folder = ROOT / f".venv-{name}"
    if again:
        subprocess.run(["make", f"test-{name}"], cwd=ROOT)  # what fails is in its report
    return read_run(folder / "bin" / "python", folder / "report.xml", dict(os.environ))


def over_newest(version: str, folder: Path) -> dict[str, str]:
    """Lays another TRL over the newest lane, in `folder`; returns the environment that finds it there."""
    install = [NEWEST, *PIP, "install", "-q", "--no-deps", "--target", folder, f"trl=={version}"]
    subprocess.run(install, check=True)
    return {**os.environ, "PYTHONPATH": str(folder)}


def other_trl(version: str) -> dict[str, Any]:
    """The lane's tests in the newest lane with another TRL."""
    with tempfile.TemporaryDirectory() as folder:
        environment = over_newest(version, Path(folder))
        report = Path(folder) / "report.xml"
        command = [NEWEST, "-m", "pytest", "-q", "-n", "2", "--dist", "worksteal", "-m", "not slow"]
        subprocess.run([*command, f"--junitxml={report}", *lane_tests()], cwd=ROOT, env=environment)
        return read_run(NEWEST, report, environment)


def readme_example(versions: list[str]) -> dict[str, Any]:
    """README's first example with several TRLs; each compared with the first of them."""
    found = []
    with tempfile.TemporaryDirectory() as name:
        for version in versions:
            environment = over_newest(version, Path(name, version, "trl"))
            command = [NEWEST, ROOT / "benchmarks" / "readme_example.py", Path(name, version)]
            subprocess.run(command, cwd=ROOT, env=environment, check=True)
            found.append(json.loads(Path(name, version, "result.json").read_text()))
            assert found[-1]["trl"] == version, f"TRL {found[-1]['trl']} ran instead of {version}"
        weights = [load_file(row.pop("weights")) for row in found]
    for row, held in zip(found, weights):
        row["loss apart"] = max(abs(a - b) for a, b in zip(row["loss"], found[0]["loss"]))
        row["weights apart"] = max(float(abs(held[key] - weights[0][key]).max()) for key in weights[0])
    return {row["trl"]: {**row, "date": today()} for row in found}


def read_run(python: Path, report: Path, environment: dict[str, str]) -> dict[str, Any]:
    """Versions and counts of a run."""
    asked = "import platform; from importlib.metadata import version; "
    asked += f"print(platform.python_version(), *map(version, {SHOWN!r}))"
    said = subprocess.run([python, "-c", asked], env=environment, capture_output=True, text=True, check=True)
    python_version, *versions = said.stdout.split()
    counts, failed = counted(report)
    return {
        "python": python_version,
        "versions": dict(zip(SHOWN, versions)),
        "rooms": counts,
        "failed": failed,
        "date": datetime.fromtimestamp(report.stat().st_mtime, UTC).date().isoformat(),
    }


def lane_tests() -> list[str]:
    """The files that the Makefile names."""
    found = re.search(r"^LANE\s*:=\s*(.+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert found, "the Makefile has no LANE"
    return found[1].split()


def counted(report: Path) -> tuple[dict[str, list[int]], list[str]]:
    """Room -> [passed, failed, skipped], and the names of what failed, from pytest's own report."""
    rooms = {room: [0, 0, 0] for room in ROOMS}
    failed = []
    for case in ElementTree.parse(report).getroot().iter("testcase"):
        parts = (case.get("classname") or "").split(".")
        room = parts[1] if len(parts) > 1 and parts[1] in rooms else None
        if room is None:
            continue
        bad = case.find("failure") is not None or case.find("error") is not None
        rooms[room][1 if bad else 2 if case.find("skipped") is not None else 0] += 1
        if bad:
            failed.append(f"{parts[-1]}::{case.get('name')}")
    return rooms, failed


def beside(package: str) -> dict[str, Any]:
    """Whether pip's resolver finds versions of all that we need which `package` and its own part allow.

    Their requirements are constraints, so that nothing of theirs has to be built for the answer.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        get = [sys.executable, *PIP, "download", "-q", "--no-deps", "-d", folder]
        wanted = [package, *(["unsloth_zoo"] if package == "unsloth" else [])]
        subprocess.run([*get, "--only-binary", ":all:", *wanted], check=True)
        build = [sys.executable, *PIP, "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", folder, ROOT]
        subprocess.run(build, check=True)
        lines: list[str] = []
        version = ""
        for wheel in folder.glob("*.whl"):
            if not wheel.name.startswith("erpo_hub"):
                told, needs = requirements(wheel)
                version = told if wheel.name.startswith(package.replace("-", "_") + "-") else version
                lines += needs
        (folder / "theirs.txt").write_text("\n".join(lines))
        ours = next(folder.glob("erpo_hub-*.whl"))
        ask = [sys.executable, *PIP, "install", "-q", "--dry-run", "--ignore-installed", "--report", "-"]
        done = subprocess.run(
            [*ask, "-c", folder / "theirs.txt", ours], capture_output=True, text=True, errors="replace"
        )
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if line.startswith(("ERROR", "    "))]
        return {"version": version, "resolves": False, "why": said[:4], "date": today()}
    chosen = {
        row["metadata"]["name"].lower(): row["metadata"]["version"]
        for row in json.loads(done.stdout)["install"]
    }
    found = {name: chosen.get(name, chosen.get(name.replace("-", "_"), "")) for name in SHOWN}
    return {"version": version, "resolves": True, "versions": found, "date": today()}


def requirements(wheel: Path) -> tuple[str, list[str]]:
    """A wheel's version and what it needs without extras, as constraints."""
    with zipfile.ZipFile(wheel) as opened:
        name = next(name for name in opened.namelist() if name.endswith(".dist-info/METADATA"))
        metadata = Parser().parsestr(opened.read(name).decode())
    needs = [line for line in metadata.get_all("Requires-Dist") or [] if "extra ==" not in line]
    return metadata["Version"], [re.sub(r"\[[^\]]*\]", "", line) for line in needs]


def today() -> str:
    return datetime.now(UTC).date().isoformat()


def tables(data: dict[str, Any]) -> str:
    """The page's generated part."""
    head = ["versions", *SHOWN, "Python", *(f"`tests/{room}`" for room in ROOMS), "date"]
    lines = [f"| {' | '.join(head)} |", "|:--|" + "--:|" * (len(head) - 1)]
    for name, row in data.get("lanes", {}).items():
        cells = [name, *(row["versions"][package] for package in SHOWN), row["python"]]
        cells += [told(row["rooms"][room]) for room in ROOMS]
        lines.append(f"| {' | '.join([*cells, row['date']])} |")
    lines += ["", "Passed, + skipped where a version lacks what is tested, and **failed**."]
    failures = [(name, case) for name, row in data.get("lanes", {}).items() for case in row["failed"]]
    lines += ["", *(f"- {name}: `{case}` fails." for name, case in failures)] if failures else []
    lines += readme_lines(data.get("readme", {}))
    if data.get("beside"):
        lines += ["", "| beside | resolves with erpo-hub | to |", "|:--|:--|:--|"]
    for name, row in data.get("beside", {}).items():
        to = ", ".join(f"{k} {v}" for k, v in row.get("versions", {}).items() if v) or "; ".join(row["why"])
        lines.append(f"| {name} {row['version']} | {'yes' if row['resolves'] else '**no**'} | {to} |")
    return "\n".join(lines)


def readme_lines(found: dict[str, Any]) -> list[str]:
    """README's first example, a row for each TRL."""
    if not found:
        return []
    first = next(iter(found))
    head = ["README's first example", "rewards of its steps", "accuracy before, after"]
    head += [f"loss, largest difference to {first}", "a weight's", "date"]
    lines = ["", f"| {' | '.join(head)} |", "|:--|" + "--:|" * (len(head) - 1)]
    for version, row in found.items():
        rewards = ", ".join(f"{x:g}" for x in row["reward"])
        judged = ", ".join(f"{x:.3f}" for x in row["accuracy"])
        apart = [f"{row[key]:.0e}" if row[key] else "0" for key in ("loss apart", "weights apart")]
        lines.append(f"| {' | '.join([f'TRL {version}', rewards, judged, *apart, row['date']])} |")
    return lines


def told(counts: list[int]) -> str:
    passed, failed, skipped = counts
    if not sum(counts):
        return "not run"
    return f"{passed}" + (f" + {skipped}" if skipped else "") + (f", **{failed} failed**" if failed else "")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--lanes", default="", help="floor, newest: runs `make test-...`")
    parser.add_argument("--ran", action="store_true", help="take --lanes as make last ran them")
    parser.add_argument("--trl", default="", help="releases of TRL, each with the newest of the rest")
    parser.add_argument("--readme", default="", help="releases of TRL for README's first example")
    parser.add_argument("--beside", default="", help="packages that should install beside us")
    parser.add_argument("--write", action="store_true", help="write docs/compatibility.md")
    given = parser.parse_args()
    data = json.loads(DATA.read_text()) if DATA.is_file() else {"lanes": {}, "beside": {}}
    for name in filter(None, given.lanes.split(",")):
        data["lanes"][name] = made_lane(name, again=not given.ran)
    for version in filter(None, given.trl.split(",")):
        data["lanes"][f"TRL {version}"] = other_trl(version)
    if given.readme:
        data["readme"] = readme_example(given.readme.split(","))
    for name in filter(None, given.beside.split(",")):
        data["beside"][name] = beside(name)
    text = tables(data)
    print(text)
    if given.write:
        DATA.write_text(json.dumps(data, indent=1) + "\n")
        write_between(PAGE, "compatibility", text)


if __name__ == "__main__":
    main()
