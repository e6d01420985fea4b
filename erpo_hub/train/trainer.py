"""ERPOTrainer: only what ERPO changes in TRL's GRPOTrainer.

The loss of TRL 1.16 takes advantages per token as they are, so everything happens once per generation batch,
right after TRL has generated and graded it: group statistics need whole groups, and rows are shuffled
afterwards. TRL's loss, its generation and its metrics are left alone. With the gate off and eta = 0 nothing
here runs, and training is GRPO's bit for bit.
"""

from __future__ import annotations

import math
import tempfile
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from accelerate.utils import gather_object, is_peft_model
from torch import Tensor
from transformers.utils import logging
from trl import GRPOTrainer
from trl.models.utils import disable_gradient_checkpointing
from trl.trainer.utils import use_adapter

from ..errors import UserError
from ..methods.erpo import NonFiniteError, TokenAdvantages, token_advantages
from ..methods.holder import annealed_p, with_holder_mean
from . import compat, dead_rows, shared_prefix
from .capture import DecodeCapture
from .config import ERPOConfig
from .metrics import METRICS, LoggedTokens, batch_metrics, pivot_mask

logger = logging.get_logger(__name__)
compat.check_trl()

# What a forward of this batch needs besides ids and mask; TRL puts them into its output for its own loss.
_FORWARD_KEYS = (
    "pixel_values",
    "image_grid_thw",
    "num_images",
    "pixel_attention_mask",
    "spatial_shapes",
    "num_tiles",
    "image_sizes",
    "token_type_ids",
    "mm_token_type_ids",
    "image_position_ids",
)


class ERPOTrainer(GRPOTrainer):
    """[`~trl.GRPOTrainer`] with ERPO's token advantages (eqs. 2-7, reconstructed from public sources).

    Takes what GRPOTrainer takes; `args` is an [`ERPOConfig`] (a plain `GRPOConfig` trains plain GRPO).
    Where the sampling policy's entropy comes from is logged once: the old-log-prob forward where TRL makes
    one, else the decode steps of `generate`, else one extra forward.

    Raises:
        NonFiniteError: NaN or infinite logits, before the update, unless `on_nonfinite="skip"`.
        UserError: the reference model has another vocabulary than the policy.
    """

    _tag_names = ["trl", "grpo", "erpo", "erpo-hub"]
    _name = "ERPO"
    _template_file = "lm_model_card.md"  # type: ignore[assignment]
    _paper = {
        "title": "ERPO: Token-Level Entropy-Regulated Policy Optimization for Large Reasoning Models",
        "id": "2603.28204",
        # docstyle-ignore
        "citation": """@article{yu2026erpo,
  title   = {{ERPO: Token-Level Entropy-Regulated Policy Optimization for Large Reasoning Models}},
  author  = {Yu, S. and Li, L. and Zhao, W. and Yang, Z.},
  year    = {2026},
  journal = {arXiv preprint arXiv:2603.28204}
}""",
    }

    # TRL's own annotations leave these optional or too narrow.
    model: Any
    args: Any
    num_generations: int
    num_generations_eval: int
    _logs: dict[str, Any]

    def __init__(self, model: Any, reward_funcs: Any = None, args: Any = None, *rest: Any, **kwargs: Any):
        if args is None:
            name = model if isinstance(model, str) else getattr(model.config, "_name_or_path", "")
            args = ERPOConfig(f"{name.split('/')[-1]}-ERPO")
        self._erpo: ERPOConfig | None = None
        if isinstance(args, ERPOConfig) and args.reshapes_advantages:
            self._erpo = args
        self._captured: list[tuple[Tensor, Tensor] | None] = []  # one entry a call of generate, (B, T) each
        self._scored: list[tuple[Tensor, Tensor]] = []  # one entry a forward that scores, (B, T) each
        self._rewards: Tensor | None = None  # (B of all processes,), NaN where nobody scored
        self._skip_batch = False
        self._loss_entropy: Tensor | None = None
        self._loss_inputs: dict | None = None  # of the loss under way, where it takes the Hölder mean
        self._source_logged: str | None = None
        wants_reference = self._erpo is not None and self._erpo.uses_reference
        in_memory = not isinstance(model, str) and not model.config._name_or_path
        needs_folder = wants_reference and in_memory and not is_peft_model(model)
        with (
            _reference_without_kl(args) if wants_reference else nullcontext(),
            _saved(model) if needs_folder and kwargs.get("peft_config") is None else nullcontext(),
        ):
            super().__init__(model, reward_funcs, args, *rest, **kwargs)
        self.beta = args.beta
        self._skips_dead_rows = dead_rows.wanted(self)
        self._packs = shared_prefix.wanted(self)
        if self._erpo is not None and self.ref_model is not None:
            _check_vocabulary(*(self.accelerator.unwrap_model(m) for m in (self.model, self.ref_model)))

    # --- the one seam: after TRL has generated and graded a batch, before it is shuffled ---

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        if self._erpo is None:
            return super()._generate_and_score_completions(inputs)
        self._captured, self._scored, self._rewards, self._skip_batch = [], [], None, False
        out = super()._generate_and_score_completions(inputs)
        mode = "train" if self.model.training else "eval"
        mask = out["completion_mask"] if "tool_mask" not in out else out["completion_mask"] * out["tool_mask"]
        with torch.no_grad():
            entropy, logps = self._sampling_policy(out)
            ref_logps = self._reference_logps(out, logps)
            if self.log_completions:
                self._log_tokens(out, entropy, logps)
            if self._erpo.on_nonfinite == "skip" and self._broken_anywhere(mask, entropy, logps, ref_logps):
                self._skip_batch = mode == "train"
                self._metrics[mode]["erpo/skipped_batches"].append(1.0)
                logger.warning(
                    f"step {self.state.global_step}: NaN or infinite logits, generation batch skipped"
                )
                return out
            result = self._token_advantages(out, entropy, logps, ref_logps, mask, mode)
        out["advantages"] = result.advantages
        return out

    def _token_advantages(
        self, out: dict, entropy: Tensor, logps: Tensor, ref_logps: Tensor, mask: Tensor, mode: str
    ) -> TokenAdvantages:
        num_generations = self.num_generations if mode == "train" else self.num_generations_eval
        rows, world, rank = len(mask), self.accelerator.num_processes, self.accelerator.process_index
        # TRL keeps a group in consecutive rows, and a group may go on in the next process.
        group_index = torch.arange(rank * rows, (rank + 1) * rows, device=mask.device) // num_generations
        outcome, local_rewards, zero_variance = self._outcomes(out["advantages"], num_generations)
        try:
            result = token_advantages(
                entropy,
                logps,
                ref_logps,
                outcome,
                mask,
                group_index,
                num_groups=math.ceil(world * rows / num_generations),
                settings=self._erpo,  # type: ignore[arg-type]
                rewards=local_rewards,
                reduce=straddling_reduce(self.accelerator, rows, num_generations),
            )
        except NonFiniteError as error:
            raise _at_step(error, self.state.global_step) from None
        values = batch_metrics(result, entropy, mask, self.accelerator)
        for name, value in zip(METRICS, values, strict=True):
            self._metrics[mode][name].append(value)
        self._metrics[mode]["erpo/zero_variance_groups"].append(zero_variance)
        return result

    def _outcomes(self, advantages: Tensor, num_generations: int) -> tuple[Tensor, Tensor | None, float]:
        """Outcome advantages (B,), local rewards (B,) and the share of groups whose rewards are all equal.

        A group of equal rewards has advantages that are 0 up to the rounding of their mean. The sign in eq. 6
        would make that noise a full-strength signal, so it is set to exactly 0.
        """
        if self._rewards is None:
            return advantages, None, 0.0
        groups = self._rewards.view(-1, num_generations)
        low = groups.nan_to_num(nan=math.inf).amin(1)
        high = groups.nan_to_num(nan=-math.inf).amax(1)
        equal = (high - low) <= 1e-6 * high.abs().clamp(min=1)  # (groups,); also where nobody scored: -inf
        rows, start = len(advantages), self.accelerator.process_index * len(advantages)
        local = slice(start, start + rows)
        if self.multi_objective_aggregation == "sum_then_normalize":
            dead = equal.repeat_interleave(num_generations)[local]
            advantages = advantages.masked_fill(dead, 0)
        return advantages, self._rewards[local], equal.float().mean().item()

    # --- the sampling policy's entropy and log-probs ---

    def _sampling_policy(self, out: dict) -> tuple[Tensor, Tensor]:
        """Entropy (nats) and log-prob of every completion token under the policy that sampled it, (B, T)."""
        width = out["completion_ids"].shape[1]
        if "old_per_token_logps" in out:
            source = "TRL's old-log-prob forward"
            entropy, logps = self._scored[0]
        elif len(self._captured) == 1 and self._captured[0] is not None:
            source = "the decode steps of generate"
            entropy, logps = (_fit(x, width) for x in self._captured[0])
        else:
            source = "one extra forward"
            entropy, logps = self._score(self.model, out)
        if source != self._source_logged:
            logger.info(f"ERPO takes entropies and log-probs of the sampling policy from {source}")
            self._source_logged = source
        return entropy.float(), logps.float()

    def _generate_single_turn(self, prompt_ids: list, *args: Any, **kwargs: Any) -> tuple[list, list | None]:
        if self._erpo is None or not self._decodes_here():
            return super()._generate_single_turn(prompt_ids, *args, **kwargs)
        model = self.accelerator.unwrap_model(self.model)
        model = model.get_base_model() if is_peft_model(model) else model
        with DecodeCapture(model, self.temperature) as capture:
            completion_ids, logprobs = super()._generate_single_turn(prompt_ids, *args, **kwargs)
        self._captured.append(capture.result(completion_ids))
        return completion_ids, logprobs

    def _decodes_here(self) -> bool:
        """Whether a decode step here is one token of each row, and TRL does not score the tokens anyway."""
        if self.use_vllm or self.use_transformers_continuous_batching or self.rollout_func is not None:
            return False
        if self.args.gradient_accumulation_steps % (self.args.steps_per_generation * self.num_iterations):
            return False  # TRL computes the old log-probs itself: take those
        if self._erpo.uses_reference and not self._full_precision():  # type: ignore[union-attr]
            # Eq. 3 subtracts a forward's log-probs. In bfloat16 those of decode steps differ from them by
            # about 0.1 nats of rounding, more than a policy drifts in many steps; two forwards round alike.
            return False
        config = self.generation_config
        return config.num_beams in (None, 1) and not config.prompt_lookup_num_tokens

    def _full_precision(self) -> bool:
        return self.model.dtype == torch.float32 and not (self.args.bf16 or self.args.fp16)

    def _get_per_token_logps_and_entropies(self, model: Any, *args: Any, **kwargs: Any) -> tuple:
        """The fused head computes both for the policy on every call: keep them while a batch is scored."""
        if self._erpo is None or torch.is_grad_enabled() or model is not self.model:
            logps, entropy, aux = self._forward(model, *args, **kwargs)
            if entropy is not None:
                self._loss_entropy = entropy.detach()
            if self._loss_inputs is not None and torch.is_grad_enabled():
                logps = self._with_holder_mean(logps, self._loss_inputs)
            return logps, entropy, aux
        wanted = kwargs.pop("compute_entropy", False)
        logps, entropy, aux = self._forward(model, *args, compute_entropy=True, **kwargs)
        self._scored.append((entropy, logps))
        self._loss_entropy = entropy  # of an evaluation's loss, which needs no gradient
        return logps, entropy if wanted else None, aux

    def _forward(
        self, model: Any, input_ids: Tensor, attention_mask: Tensor, keep: int, *rest: Any, **more: Any
    ) -> tuple:
        """TRL's forward that scores; a group's prompt is computed once where that is asked for."""
        images = any(more.get(key) is not None for key in _FORWARD_KEYS)
        if self._packs and not (images or rest or self.aux_loss_enabled):
            size = more.get("batch_size")
            found = shared_prefix.forward(self, model, input_ids, attention_mask, keep, size)
            if found is not None:
                return found[0], found[1] if more.get("compute_entropy") else None, None
        return super()._get_per_token_logps_and_entropies(
            model, input_ids, attention_mask, keep, *rest, **more
        )

    def _score(self, model: Any, out: dict) -> tuple[Tensor, Tensor]:
        """One forward over prompt and completion: entropy (the policy's only) and log-probs, (B, T)."""
        args, train = self.args, self.model.training
        logps, entropy, _ = self._forward(
            model,
            torch.cat([out["prompt_ids"], out["completion_ids"]], dim=1),
            torch.cat([out["prompt_mask"], out["completion_mask"]], dim=1),
            out["completion_ids"].shape[1],
            batch_size=args.per_device_train_batch_size if train else args.per_device_eval_batch_size,
            compute_entropy=model is self.model,
            **{key: out[key] for key in _FORWARD_KEYS if key in out},
        )
        return entropy, logps

    def _reference_logps(self, out: dict, logps: Tensor) -> Tensor:
        """Eq. 3's reference log-probs, (B, T): TRL's where it has them, else one forward of the reference."""
        if not self._erpo.uses_reference:  # type: ignore[union-attr]
            return logps
        if "ref_per_token_logps" in out:
            return out["ref_per_token_logps"].float()
        with disable_gradient_checkpointing(self.model, self.args.gradient_checkpointing_kwargs):
            if self.ref_model is not None:
                return self._score(self.ref_model, out)[1].float()
            model = self.accelerator.unwrap_model(self.model)
            with use_adapter(model, adapter_name="ref" if "ref" in model.peft_config else None):
                return self._score(self.model, out)[1].float()

    def _calculate_rewards(self, *args: Any, **kwargs: Any) -> Tensor:
        per_func = super()._calculate_rewards(*args, **kwargs)  # (B of all processes, functions)
        if self._erpo is not None:
            total = (per_func * self.reward_weights.to(per_func.device)).nansum(1)
            self._rewards = total.masked_fill(per_func.isnan().all(1), math.nan)
        return per_func

    # --- a batch with broken logits ---

    def _broken_anywhere(self, mask: Tensor, *tensors: Tensor) -> bool:
        broken = torch.stack([(~torch.isfinite(x) & mask.bool()).any() for x in tensors]).any()
        return bool(self.accelerator.reduce(broken.float(), "sum") > 0)

    def compute_loss(self, model: Any, inputs: dict, *args: Any, **kwargs: Any) -> Tensor:
        if self._skip_batch:
            return self._no_loss(model)
        scale: float | Tensor = 1.0
        if self._skips_dead_rows and self.model.training:
            given, inputs = inputs, dead_rows.without(inputs, self.accelerator)
            self._log_computed(given, inputs)
            if not len(inputs["advantages"]):
                return self._no_loss(model)
            scale = dead_rows.loss_scale(given, inputs, self.loss_type)
        self._loss_inputs = inputs if getattr(self.args, "holder_start", None) is not None else None
        loss = super().compute_loss(model, inputs, *args, **kwargs) * scale
        if self._erpo is None or torch.isfinite(loss):
            return loss
        # The policy broke after its batch was generated; TRL's loss has just read its entropies.
        broken = (~torch.isfinite(self._loss_entropy)).nonzero()  # type: ignore[arg-type]
        row, position = broken[0].tolist() if len(broken) else (0, 0)
        error = NonFiniteError("the loss or its entropy", row, position, len(broken[:, 0].unique()))
        if self._erpo.on_nonfinite == "stop":
            raise _at_step(error, self.state.global_step)
        logger.warning(f"step {self.state.global_step}: {error}; skipped")
        return self._no_loss(model)

    def _log_computed(self, given: dict, kept: dict) -> None:
        """TRL's entropy and clip ratios are then means over the rows that were computed: this share."""
        share = len(kept["advantages"]) / len(given["advantages"])
        self._metrics["train"]["erpo/computed_rows"].append(share)

    def _with_holder_mean(self, logps: Tensor, inputs: dict) -> Tensor:
        mask = inputs["completion_mask"] * inputs.get("tool_mask", 1)
        args, state = self.args, self.state
        p = annealed_p(args.holder_start, args.holder_end, state.global_step, state.max_steps)
        self._metrics["train"]["erpo/holder_p"].append(p)
        return with_holder_mean(logps, inputs.get("old_per_token_logps"), mask, p)

    def _no_loss(self, model: Any) -> Tensor:
        """0 with gradient 0 for every parameter, so that no process waits for another's."""
        trained = (p for p in model.parameters() if p.requires_grad)
        return torch.stack([p.float().nan_to_num().sum() for p in trained]).sum() * 0.0

    # --- what a reader of the run sees ---

    def _log_tokens(self, out: dict, entropy: Tensor, logps: Tensor) -> None:
        """One column of the completions table: see LoggedTokens. `traces.completions` reads it back."""
        prompt_mask, mask = out["prompt_mask"].bool(), out["completion_mask"].bool()
        pivots = pivot_mask(entropy, mask)
        vocabulary = self.accelerator.unwrap_model(self.model).config.get_text_config().vocab_size
        rows = [
            LoggedTokens(
                prompt_ids=out["prompt_ids"][i][prompt_mask[i]].tolist(),
                ids=out["completion_ids"][i][mask[i]].tolist(),
                entropy=[round(x, 4) for x in entropy[i][mask[i]].tolist()],
                logprob=[round(x, 4) for x in logps[i][mask[i]].tolist()],
                pivots=pivots[i][mask[i]].nonzero()[:, 0].tolist(),
                temperature=self.temperature,
                vocab_size=vocabulary,
            )
            for i in range(len(mask))
        ]
        self._logs["extra"]["erpo/tokens"].extend(gather_object(rows))


def straddling_reduce(accelerator: Any, rows: int, num_generations: int) -> Any:
    """What adds the statistics of split groups up over processes; None where no group is split.

    At most one group is split per boundary between two processes, so a process sends fewer than
    `num_processes` rows of 4 + 3K numbers, whatever the batch size.
    """
    boundaries = range(rows, rows * accelerator.num_processes, rows)
    split = sorted({start // num_generations for start in boundaries if start % num_generations})
    if not split:
        return None

    def reduce(stats: Tensor) -> Tensor:
        index = torch.tensor(split, device=stats.device)
        stats[index] = accelerator.reduce(stats[index], "sum")
        return stats

    return reduce


@contextmanager
def _reference_without_kl(args: Any):
    """TRL builds a reference model (or adapter) only for beta != 0; ERPO needs it for beta = 0 too."""
    beta = args.beta
    args.beta = beta or 1.0
    try:
        yield
    finally:
        args.beta = beta


@contextmanager
def _saved(model: Any):
    """TRL reads the reference from the folder its policy came from: give a policy made in memory one."""
    with tempfile.TemporaryDirectory(prefix="erpo-reference-") as folder:
        model.save_pretrained(folder)
        model.config._name_or_path = folder
        try:
            yield
        finally:
            model.config._name_or_path = ""


def _at_step(error: NonFiniteError, step: int) -> NonFiniteError:
    error.args = (f"step {step}: {error}",)
    return error


def _check_vocabulary(policy: Any, reference: Any) -> None:
    sizes = [model.config.get_text_config().vocab_size for model in (policy, reference)]
    if sizes[0] != sizes[1]:
        raise UserError(
            f"the policy has {sizes[0]} tokens and its reference {sizes[1]}, but eq. 3 compares them token "
            "by token: save the resized model and train from that folder"
        )


def _fit(x: Tensor, width: int) -> Tensor:
    """Cut or pad with zeros to `width` columns (TRL pads completions to a multiple where asked)."""
    return torch.nn.functional.pad(x, (0, width - x.shape[1]))
