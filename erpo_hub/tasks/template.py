"""Loaded by the template that grading processes are forked from: importing this warms math-verify up."""

from .gym import warm_up

warm_up()
