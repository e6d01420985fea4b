"""Where a run is published, and what would make that fail for certain, said before hours of training."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from ..errors import UsageError, UserError
from ..record.format import RunRecord


@dataclass(frozen=True)
class Publishing:
    """`train_and_push`'s arguments of the same names."""

    repo_id: str | None
    push: bool = True
    private: bool | None = None
    token: str | None = field(default=None, repr=False)

    def check(self) -> None:
        """Raises UsageError or UserError where the push could not work."""
        if not self.push:
            return
        from huggingface_hub import get_token

        from ..publish.hub import check_repo_id

        if self.repo_id is None:
            raise UsageError("where to? give repo_id, or push=False to keep the bundle on this machine")
        check_repo_id(self.repo_id)
        if not (self.token or get_token()):
            raise UserError(
                "no Hugging Face token found: run `hf auth login`, set HF_TOKEN, or train with push=False"
            )

    def check_base(self, record: RunRecord) -> None:
        """Raises UserError where the run makes an adapter that nobody else could load."""
        from ..publish.base import refuse_unreachable_base

        if self.push:
            refuse_unreachable_base(record, f"{self.repo_id}")

    def publish(self, bundle: Path) -> str:
        """The address of the commit, or of the pull request that proposes it."""
        from ..publish.hub import push_bundle

        commit = push_bundle(bundle, str(self.repo_id), private=self.private, token=self.token)
        return commit.pr_url or commit.commit_url
