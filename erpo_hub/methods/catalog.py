"""What cards, `--help`, the run record and the app say of each method. Data only, without torch.

A method is one row here, and one file beside this one where it computes something of its own. Equation
numbers are those of `erpo.py`: 1 token entropy, 2 gate, 3 implicit progress, 4 buckets, 5 bucket
normalization, 6 result anchor, 7 synthesis.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Setting:
    """A field of `ERPOConfig` that the method reads."""

    name: str
    meaning: str
    equation: str = ""  # its number, where the field belongs to one of eqs. 2-7


@dataclass(frozen=True)
class Method:
    name: str  # of the preset
    title: str  # as its authors write it
    summary: str  # what it is, after the title and a comma
    paper: str  # arXiv id
    paper_title: str  # in BibTeX's spelling
    authors: str  # likewise
    explanation: str  # how it computes its update: the card's sentences above the settings
    needs_reference: bool = False  # whether it compares with a reference model
    reconstructed: str = ""  # from what; empty where code of its authors or a full description was at hand
    settings: tuple[Setting, ...] = ()
    preset: Mapping[str, Any] = field(default_factory=dict)  # fields that differ from ERPOConfig's defaults

    @property
    def link(self) -> str:
        return f"[{self.title}](https://arxiv.org/abs/{self.paper})"

    @property
    def bibtex(self) -> str:
        year = f"20{self.paper[:2]}"
        key = f"{self.authors.partition(',')[0].lower()}{year}{self.name.replace('-', '')}"
        fields = {"title": self.paper_title, "author": self.authors, "year": year, "eprint": self.paper}
        lines = [
            f"  {name:<13} = {{{value}}}" for name, value in (fields | {"archivePrefix": "arXiv"}).items()
        ]
        return "\n".join([f"@misc{{{key},", ",\n".join(lines), "}"])


_ERPO_SETTINGS = (
    Setting("entropy_gate", "weigh each token by how uncertain the policy was there", "2"),
    Setting("gate_gamma", "steepness γ of the gate", "2"),
    Setting("progress_beta", "scale β of the implicit progress, log π − log π_ref", "3"),
    Setting("num_buckets", "number K of progress buckets", "4"),
    Setting("bucket_axis", "what a completion's progress is measured along", "4"),
    Setting("eps", "δ in both standardizations", "2, 5"),
    Setting("zero_variance", "groups whose completions all score alike", "6"),
    Setting("reward_threshold", "reward θ that counts as success where such groups are kept", "6"),
    Setting("progress_eta", "weight η of the token term", "7"),
    Setting("synthesis", "how outcome and token term are put together", "7"),
)
_PLAIN = {"entropy_gate": False, "progress_eta": 0.0}  # eqs. 2-7 reduce to GRPO's advantages

_ROWS = (
    Method(
        name="grpo",
        title="GRPO",
        summary="group relative policy optimization",
        paper="2402.03300",
        paper_title="{DeepSeekMath}: Pushing the Limits of Mathematical Reasoning in Open Language Models",
        authors="Shao, Zhihong and Wang, Peiyi and Zhu, Qihao and Xu, Runxin and Song, Junxiao and others",
        explanation="Every token of a completion gets the completion's group-relative advantage.",
        preset=_PLAIN,
    ),
    Method(
        name="erpo",
        title="ERPO",
        summary="token-level entropy-regulated policy optimization",
        paper="2603.28204",
        paper_title="{ERPO}: Token-Level Entropy-Regulated Policy Optimization for Large Reasoning Models",
        authors="Yu, S. and Li, L. and Zhao, W. and Yang, Z.",
        explanation=(
            "Each token's advantage is Â = ω A + η Ψ (synthesis `gated`) or Â = A + η Ψ (`additive`), after "
            "seven equations: (1) token entropy, (2) entropy-aware gate, (3) implicit progress, (4) progress "
            "buckets, (5) bucket normalization, (6) result anchor, (7) synthesis."
        ),
        needs_reference=True,
        reconstructed="the paper's abstract, quoted formulas and the authors' follow-up",
        settings=_ERPO_SETTINGS,
    ),
    Method(
        name="ep-grpo",
        title="EP-GRPO",
        summary="entropy-progress aligned GRPO",
        paper="2605.04960",
        paper_title=(
            "{EP-GRPO}: Entropy-Progress Aligned Group Relative Policy Optimization with Implicit Process "
            "Guidance"
        ),
        authors="Yu, Song and Li, Li and Zhao, Wenwen and Yang, Zhisheng",
        explanation=(
            "ERPO's seven equations with three changes: a completion's progress is the share of its entropy "
            "spent so far, the gate weighs the outcome advantage too (Â = ω A + η Ψ), and in a group whose "
            "completions all score alike the reward itself gives the direction."
        ),
        reconstructed="the paper's abstract and quoted formulas",
        settings=_ERPO_SETTINGS,
        preset={"bucket_axis": "entropy", "synthesis": "gated", "zero_variance": "reward_sign"},
    ),
    Method(
        name="forking-tokens",
        title="GRPO on forking tokens",
        summary="the fifth of the tokens with the highest entropy",
        paper="2506.01939",
        paper_title=(
            "Beyond the 80/20 Rule: High-Entropy Minority Tokens Drive Effective Reinforcement Learning for "
            "{LLM} Reasoning"
        ),
        authors="Wang, Shenzhi and Yu, Le and Gao, Chang and Zheng, Chujie and Liu, Shixuan and others",
        explanation=(
            "GRPO's advantages, but only the tokens of highest entropy enter the loss. This is TRL's own "
            "`top_entropy_quantile`."
        ),
        settings=(Setting("top_entropy_quantile", "share of the tokens that enters the loss"),),
        preset=_PLAIN | {"top_entropy_quantile": 0.2},
    ),
    Method(
        name="holder",
        title="HölderPO",
        summary="GRPO with a power mean of importance ratios",
        paper="2605.12058",
        paper_title='H{\\"o}lder Policy Optimisation',
        authors=(
            "Chen, Yuxiang and Liang, Dingli and Chen, Yihang and Gong, Ziqin and Le, Chenyang and Wang, "
            "Zhaokai and Zhu, Jiachen and Yang, Lingyu and Lin, Jianghao and Zhang, Weinan and Wang, Jun"
        ),
        explanation=(
            "GRPO's advantages; a completion is weighed by the power mean of its tokens' importance ratios, "
            "ρ_p = (mean_t r_t^p)^(1/p), clipped as one ratio, while p goes linearly from `holder_start` to "
            "`holder_end`. It acts only where a batch is used for several updates."
        ),
        settings=(
            Setting("holder_start", "power p at the first step"),
            Setting("holder_end", "power p at the last step"),
        ),
        preset=_PLAIN
        | {
            "holder_start": 2.0,
            "holder_end": -2.0,
            "importance_sampling_level": "sequence",
            "loss_type": "grpo",
        },
    ),
    Method(
        name="gtpo",
        title="GTPO",
        summary="GRPO with entropy-weighted token rewards",
        paper="2508.04349",
        paper_title="{GTPO} and {GRPO-S}: Token and Sequence-Level Reward Shaping with Policy Entropy",
        authors="Tan, Hongze and Wang, Zihan and Pan, Jianfei and Lin, Jinghao and Wang, Hao and others",
        explanation="Half of GRPO's advantage is shared out: a token of a right completion gets more, the "
        "larger its share of the entropy at its position; of a wrong one, of the inverse entropy.",
        reconstructed="the paper's abstract; normalization and weights are our reading",
        preset={"credit": "gtpo"},
    ),
)
METHODS: dict[str, Method] = {row.name: row for row in _ROWS}


def title_of(name: object) -> str:
    """The method's title; an unknown name, such as a newer version's, stands for itself."""
    row = METHODS.get(str(name))
    return row.title if row else str(name or "")
