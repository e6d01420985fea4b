"""The command that says what works on this machine: doctor-env."""

from __future__ import annotations

import typer

commands = typer.Typer()


@commands.command("doctor-env")
def doctor_env() -> None:
    """Say what is installed and what of the package works here. Paste it into a bug report.

    Example: `erpo-hub doctor-env`
    """
    from ..run.environment import report
    from ..run.quiet import quiet

    quiet()
    typer.echo(report())
