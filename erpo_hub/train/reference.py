"""The reference model that a method compares with: TRL keeps one only for beta != 0."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ..errors import UserError


@contextmanager
def reference_without_kl(args: Any) -> Iterator[None]:
    """TRL builds a reference model (or adapter) only for beta != 0; ERPO needs it for beta = 0 too."""
    beta = args.beta
    args.beta = beta or 1.0
    try:
        yield
    finally:
        args.beta = beta


@contextmanager
def saved(model: Any) -> Iterator[None]:
    """TRL reads the reference from the folder its policy came from: give a policy made in memory one."""
    with tempfile.TemporaryDirectory(prefix="erpo-reference-") as folder:
        model.save_pretrained(folder)
        model.config._name_or_path = folder
        try:
            yield
        finally:
            model.config._name_or_path = ""


def check_vocabulary(policy: Any, reference: Any) -> None:
    sizes = [model.config.get_text_config().vocab_size for model in (policy, reference)]
    if sizes[0] != sizes[1]:
        raise UserError(
            f"the policy has {sizes[0]} tokens and its reference {sizes[1]}, but eq. 3 compares them token "
            "by token: save the resized model and train from that folder"
        )
