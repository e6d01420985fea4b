"""Of the Runs tab: what the run doctor found, and what `erpo-hub verify` said of the card.

Works from run.json and from a verification.json beside it or in its bundle. One that a repository on the Hub
brings is its author's word and is not shown.
"""

from __future__ import annotations

from typing import Any

from ...errors import UserError
from ...record.format import RunRecord
from ...verification.claims import FILE, read_verification
from ..library.run_folder import RunFolder


def findings_facts(records: list[tuple[str, RunRecord]]) -> dict[str, Any]:
    """What is wrong with each run, since which step, how sure, and the change to make."""
    rows, silent = [], []
    for label, record in records:
        for one in record.findings or []:
            rows.append([label, one.kind, one.what, f"{one.step}", one.certainty, one.change])
        if not record.findings:
            silent.append(f"{label}: " + ("the doctor was off." if record.findings is None else "nothing."))
    head = ["run", "kind", "what is wrong", "since step", "certainty", "what to change"]
    return {"head": head, "rows": rows, "note": " ".join(silent)}


def verified_facts(runs: list[RunFolder], *, public: bool) -> dict[str, Any]:
    """The claims of each run's card and how they were found to be. public: no path is said."""
    rows, notes = [], []
    for run in runs:
        where = run.repo or ("" if public else str(run.folder))
        places = [] if run.repo else [run.folder / FILE, run.published / FILE]
        path = next((path for path in places if path.is_file()), None)
        if path is None:
            out = "" if run.repo else f" --out {run.folder / FILE}"
            notes.append(f"{run.label}: not checked here{f'; erpo-hub verify {where}{out}' if where else ''}")
            continue
        try:
            found = read_verification(path)
        except UserError as error:
            notes.append(f"{run.label}: its {FILE} is not what verify wrote" if public else str(error))
            continue
        rows += [[run.label, claim.name, claim.said, claim.detail] for claim in found.claims]
        notes.append(f"{run.label}: {found.verdict}. {found.limits()}".strip())
    return {"head": ["run", "claim", "result", "detail"], "rows": rows, "note": " · ".join(notes)}
