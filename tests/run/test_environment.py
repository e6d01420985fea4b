"""doctor-env: one screen, no token, and a reason for what does not work."""

from __future__ import annotations

from importlib.metadata import version

import pytest

from erpo_hub.run import environment


def test_one_screen_without_the_token(monkeypatch: pytest.MonkeyPatch) -> None:
    secret = "hf_" + "x" * 34
    monkeypatch.setenv("HF_TOKEN", secret)
    monkeypatch.setattr(environment, "find_spec", lambda name: None if name == "gradio" else object())
    text = environment.report()
    lines = text.splitlines()
    assert len(lines) <= 24
    assert max(map(len, lines)) <= 130
    assert secret not in text
    assert "a token from HF_TOKEN, offline mode is on" in text
    assert f"trl {version('trl')}" in text
    assert '  app, space: gradio not installed: pip install "erpo-hub[app]"' in lines
    assert "train, evaluate, compare" in lines[lines.index("works here:") + 1]


def test_a_version_outside_the_range_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    declared = ["peft>=99", "no-such-package", "x; extra=='app'"]
    monkeypatch.setattr(environment, "requires", lambda name: declared)
    assert environment.outside_the_range() == [
        f"peft {version('peft')} is installed, >=99 is needed",
        "no-such-package is not installed",
    ]
    assert "train, evaluate, compare: peft" in environment.report()


def test_a_trl_that_is_refused_is_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    """The trainer is imported anew with a TRL that says that it is too old."""
    import sys

    import trl

    monkeypatch.setattr(trl, "__version__", "1.7.1")
    monkeypatch.setattr(environment, "requires", lambda name: [])
    for name in [name for name in sys.modules if name.startswith("erpo_hub.train")]:
        monkeypatch.delitem(sys.modules, name)
    assert "  train, evaluate, compare: erpo-hub works with trl >= 1.8.0, but 1.7.1" in environment.report()
