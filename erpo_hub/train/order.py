"""The order of questions, the same in a resumed run as in one that was never stopped.

TRL's sampler draws one permutation an epoch from its own generator and begins with the first one again when
training is resumed in a later epoch: the rest of that epoch then repeats questions that it has asked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from trl.trainer.utils import RepeatSampler


class ResumableSampler(RepeatSampler):
    """TRL's [`RepeatSampler`], which first draws the permutations of the epochs that lie behind.

    epoch: how many epochs lie behind when an iteration begins, whole ones and a part.
    """

    def __init__(self, like: Any, epoch: Callable[[], float]):
        super().__init__(
            like.data_source,
            like.mini_repeat_count,
            like.batch_size,
            like.repeat_count,
            like.shuffle,
            like.seed,
        )
        self._epoch = epoch
        self._drawn = 0  # permutations so far

    def __iter__(self) -> Iterator[int]:
        missing = int(self._epoch()) - self._drawn if self.shuffle else 0
        for _ in range(missing):
            torch.randperm(self.num_samples, generator=self.generator)
        self._drawn += max(missing, 0) + 1
        yield from super().__iter__()
