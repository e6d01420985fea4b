"""ERPOTrainer: only what a method with token advantages changes in TRL's GRPOTrainer.

The loss of TRL 1.16 takes advantages per token as they are, so everything happens once per generation batch,
right after TRL has generated and graded it: group statistics need whole groups, and rows are shuffled
afterwards. TRL's loss, its generation and its metrics are left alone. Without a method (ERPO with the gate
off and eta = 0) nothing here runs, and training is GRPO's bit for bit.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import nullcontext
from importlib import import_module
from typing import Any

import torch
from accelerate.utils import gather_object, is_peft_model
from torch import Tensor
from transformers.utils import logging
from trl.models.utils import disable_gradient_checkpointing
from trl.trainer.utils import use_adapter

from ..errors import UsageError
from ..methods.catalog import METHODS, Method
from ..methods.credit import Credit, CreditBatch, NonFiniteError, raise_non_finite
from ..methods.holder import annealed_p, with_holder_mean
from . import compat, dead_rows, dynamic_sampling, shared_prefix
from .capture import DecodeCapture, fit
from .checks import check_models, still, warn_of_first_progress
from .config import ERPOConfig
from .metrics import batch_metrics, logged_rows, mean_over_processes
from .order import ResumableSampler
from .processes import straddling_reduce
from .recording import RecordingTrainer
from .reference import reference_without_kl, saved

logger = logging.get_logger(__name__)
compat.check_trl()

# What a forward of this batch needs besides ids and mask; TRL puts them into its output for its own loss.
_FORWARD_KEYS = (
    "pixel_values", "image_grid_thw", "num_images", "pixel_attention_mask", "spatial_shapes", "num_tiles",
    "image_sizes", "token_type_ids", "mm_token_type_ids", "image_position_ids",
)  # fmt: skip


def _paper_of(row: Method) -> dict[str, str]:
    """What TRL's own card of a checkpoint cites."""
    return {"title": row.paper_title, "id": row.paper, "citation": row.bibtex}


class ERPOTrainer(RecordingTrainer):
    """[`~trl.GRPOTrainer`] with an advantage for every token, by default ERPO's (eqs. 2-7).

    Takes what GRPOTrainer takes; `args` is an [`ERPOConfig`] (a plain `GRPOConfig` trains plain GRPO).
    Where the sampling policy's entropy comes from is logged once: the old-log-prob forward where TRL makes
    one, else the decode steps of `generate`, else one extra forward.

    Args:
        credit: a method of one's own, `credit(batch: CreditBatch) -> Credit`, instead of the one in `args`.
        needs_reference: whether that method reads `batch.ref_logps`; a reference model is kept for it.

    Raises:
        NonFiniteError: NaN or infinite logits or advantages, before the update, unless `on_nonfinite="skip"`.
        UserError: nothing to train, or the reference model has another vocabulary than the policy.
        UsageError: `credit` with a plain GRPOConfig, or advantages of another shape than (B, T).
    """

    _tag_names = ["trl", "grpo", "erpo", "erpo-hub"]
    _name = "ERPO"
    _template_file = "lm_model_card.md"  # type: ignore[assignment]
    _paper = _paper_of(METHODS["erpo"])

    _logs: dict[str, Any]

    def __init__(
        self,
        model: Any,
        reward_funcs: Any = None,
        args: Any = None,
        *rest: Any,
        credit: Callable[[CreditBatch], Credit] | None = None,
        needs_reference: bool = False,
        **kwargs: Any,
    ):
        if args is None:
            name = model if isinstance(model, str) else getattr(model.config, "_name_or_path", "")
            args = ERPOConfig(f"{name.split('/')[-1]}-ERPO")
        self._credit, self._needs_reference = credit, needs_reference and credit is not None
        self._is_own_credit = credit is not None
        if credit is not None and not isinstance(args, ERPOConfig):
            raise UsageError(f"credit needs an ERPOConfig as args, not a {type(args).__name__}")
        if credit is None and isinstance(args, ERPOConfig) and args.reshapes_advantages:
            method = import_module(f"..methods.{args.credit}", __package__)  # a name that the config checked
            self._credit, self._needs_reference = method.credit, args.uses_reference
        if isinstance(args, ERPOConfig) and (credit is not None or args.credit != "erpo"):
            row = METHODS["grpo" if credit is not None else args.credit]  # a stranger's starts from GRPO
            self._name, self._paper = row.title, _paper_of(row)
        self._captured: list[tuple[Tensor, Tensor] | None] = []  # one entry a call of generate, (B, T) each
        self._scored: list[tuple[Tensor, Tensor]] = []  # one entry a forward that scores, (B, T) each
        self._rewards: Tensor | None = None  # (B of all processes,), NaN where nobody scored
        self._skip_batch, self._replaces = False, None
        self._sampled_entropy = math.nan  # nats, mean over the tokens of a generation batch
        self._loss_entropy: Tensor | None = None
        self._loss_inputs: dict | None = None  # of the loss under way, where it takes the Hölder mean
        self._source_logged: str | None = None
        if kwargs.get("peft_config") is not None:
            compat.seed_adapter(args.seed)
        in_memory = not isinstance(model, str) and not model.config._name_or_path
        needs_folder = self._needs_reference and in_memory and not is_peft_model(model)
        with (
            reference_without_kl(args) if self._needs_reference else nullcontext(),
            saved(model) if needs_folder and kwargs.get("peft_config") is None else nullcontext(),
        ):
            super().__init__(model, reward_funcs, args, *rest, **kwargs)
        self.beta = args.beta
        compat.name_end_tokens(self)
        check_models(self.accelerator, self.model, self.ref_model, compared=self._credit is not None)
        self._skips_dead_rows = dead_rows.wanted(self)
        self._packs = shared_prefix.wanted(self)
        self._replaces = dynamic_sampling.wanted(self)

    def _get_train_sampler(self, dataset: Any = None) -> Any:
        """TRL's order of questions, also where training is resumed in a later epoch."""
        return ResumableSampler(super()._get_train_sampler(dataset), lambda: round(self.state.epoch or 0, 6))

    # --- the one seam: after TRL has generated and graded a batch, before it is shuffled ---

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        if self._credit is None:
            return super()._generate_and_score_completions(inputs)
        self._captured, self._scored, self._rewards, self._skip_batch = [], [], None, False
        with still(self.model):
            return self._with_credit(super()._generate_and_score_completions(inputs))

    def _filled(self, inputs: list[dict[str, Any]], generate: Callable[[list], dict]) -> dict[str, Any]:
        """TRL's generation batch; where asked for, new questions replace those without variance."""
        replaces = self._replaces and self.model.training
        return dynamic_sampling.fill(self, inputs, generate) if replaces else generate(inputs)

    def _with_credit(self, out: dict[str, Any]) -> dict[str, Any]:
        mode = "train" if self.model.training else "eval"
        with torch.no_grad():
            batch, zero_variance = self._credit_batch(out, mode)
            if self._skips_dead_rows:
                self._sampled_entropy = mean_over_processes(batch.entropy, batch.mask, self.accelerator)
            if self.args.on_nonfinite == "skip" and self._broken_anywhere(batch):
                self._skip_batch = mode == "train"
                self._metrics[mode]["erpo/skipped_batches"].append(1.0)
                logger.warning(
                    f"step {self.state.global_step}: NaN or infinite logits, generation batch skipped"
                )
                credit = Credit(out["advantages"])
            else:
                credit = self._credit_of(batch)
                out["advantages"] = credit.advantages
                self._record(out, batch, credit)
                values = batch_metrics(credit, batch.entropy, batch.mask, self.accelerator)
                warn_of_first_progress(self, mode, values)
                for name, value in (values | {"erpo/zero_variance_groups": zero_variance}).items():
                    self._metrics[mode][name].append(value)
            if self.log_completions:
                self._log_tokens(out, batch, credit)
        return out

    def _credit_batch(self, out: dict, mode: str) -> tuple[CreditBatch, float]:
        """What a method gets, and the share of groups whose rewards are all equal."""
        mask = out["completion_mask"] if "tool_mask" not in out else out["completion_mask"] * out["tool_mask"]
        entropy, logps = self._sampling_policy(out)
        num_generations = self.num_generations if mode == "train" else self.num_generations_eval
        rows, world, rank = len(mask), self.accelerator.num_processes, self.accelerator.process_index
        # TRL keeps a group in consecutive rows, and a group may go on in the next process.
        group_index = torch.arange(rank * rows, (rank + 1) * rows, device=mask.device) // num_generations
        outcome, local_rewards, zero_variance = self._outcomes(out["advantages"], num_generations)
        batch = CreditBatch(
            entropy=entropy,
            logps=logps,
            ref_logps=self._live_reference_logps(out, logps, outcome, group_index),
            rewards=local_rewards,
            advantages=outcome,
            mask=mask.bool(),
            group_index=group_index,
            num_groups=math.ceil(world * rows / num_generations),
            settings=self.args,
            reduce=straddling_reduce(self.accelerator, rows, num_generations),
        )
        return batch, zero_variance

    def _credit_of(self, batch: CreditBatch) -> Credit:
        """The method's answer, checked, with masked positions at 0: the loss multiplies them by 0."""
        try:
            made = self._credit(batch)
            if any(x.shape != batch.mask.shape for x in (made.advantages, *made.columns.values())):
                raise UsageError(
                    f"the method gave advantages or columns that are not {tuple(batch.mask.shape)}, (B, T): "
                    + ", ".join(str(tuple(x.shape)) for x in (made.advantages, *made.columns.values()))
                )
            advantages = made.advantages.to(batch.advantages.dtype).masked_fill(~batch.mask, 0)
            if not torch.isfinite(advantages.sum()):
                raise_non_finite(batch.mask, entropy=batch.entropy, logps=batch.logps, advantages=advantages)
        except NonFiniteError as error:
            raise error.at_step(self.state.global_step) from None
        return Credit(advantages, made.columns)

    def _outcomes(self, advantages: Tensor, num_generations: int) -> tuple[Tensor, Tensor | None, float]:
        """Outcome advantages (B,), local rewards (B,) and the share of groups whose rewards are all equal.

        A group of equal rewards has advantages that are 0 up to the rounding of their mean. The sign in eq. 6
        would make that noise a full-strength signal, so it is set to exactly 0.
        """
        if self._rewards is None:
            return advantages, None, 0.0
        equal = dynamic_sampling.equal_rewards(self._rewards, num_generations)  # (groups,)
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
            entropy, logps = (fit(x, width) for x in self._captured[0])
        else:
            source = "one extra forward"
            entropy, logps = self._score(self.model, out)
        if source != self._source_logged:
            logger.info(f"ERPO takes entropies and log-probs of the sampling policy from {source}")
            self._source_logged = source
        return entropy.float(), logps.float()

    def _generate_single_turn(self, prompt_ids: list, *args: Any, **kwargs: Any) -> tuple[list, list | None]:
        if self._credit is None or not self._decodes_here():
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
        if self._needs_reference and not self._full_precision():
            # Eq. 3 subtracts a forward's log-probs. In bfloat16 those of decode steps differ from them by
            # about 0.1 nats of rounding, more than a policy drifts in many steps; two forwards round alike.
            return False
        config = self.generation_config
        return config.num_beams in (None, 1) and not config.prompt_lookup_num_tokens

    def _full_precision(self) -> bool:
        return self.model.dtype == torch.float32 and not (self.args.bf16 or self.args.fp16)

    def _get_per_token_logps_and_entropies(self, model: Any, *args: Any, **kwargs: Any) -> tuple:
        """The fused head computes both for the policy on every call: keep them while a batch is scored."""
        unread = self._credit is None and self._sheet is None
        if unread or torch.is_grad_enabled() or model is not self.model:
            logps, entropy, aux = self._forward(model, *args, **kwargs)
            self._note(entropy, logps)
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

    def _live_reference_logps(
        self, out: dict, logps: Tensor, outcome: Tensor, group: Tensor
    ) -> Tensor | None:
        """(B, T). Where ERPO drops groups without advantage, their rows get the policy's own log-probs."""
        if not self._needs_reference:
            return None
        drops = self._skips_dead_rows and self.model.training and dead_rows.drops_whole_groups(self.args)
        if not drops or self._is_own_credit or "ref_per_token_logps" in out or "pixel_values" in out:
            return self._reference_logps(out)
        live = dead_rows.live_groups(outcome, group, self.accelerator.num_processes == 1)
        rows = dead_rows.rows_to_keep(live, self.accelerator)
        ref_logps = logps.clone()
        if len(rows):
            ref_logps[rows] = self._reference_logps(dead_rows.rows_of(out, rows))
        return ref_logps

    def _reference_logps(self, out: dict) -> Tensor:
        """The reference's log-probs, (B, T): TRL's where it has them, else one forward of the reference."""
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
        if self._credit is not None or self._replaces:
            total = (per_func * self.reward_weights.to(per_func.device)).nansum(1)
            self._rewards = total.masked_fill(per_func.isnan().all(1), math.nan)
        return per_func

    # --- a batch with broken logits ---

    def _broken_anywhere(self, batch: CreditBatch) -> bool:
        tensors = [x for x in (batch.entropy, batch.logps, batch.ref_logps) if x is not None]
        broken = torch.stack([(~torch.isfinite(x) & batch.mask).any() for x in tensors]).any()
        return bool(self.accelerator.reduce(broken.float(), "sum") > 0)

    def compute_loss(self, model: Any, inputs: dict, *args: Any, **kwargs: Any) -> Tensor:
        if self._skip_batch:
            return self._no_loss(model)
        scale: float | Tensor = 1.0
        if self._skips_dead_rows and self.model.training:
            given, inputs = inputs, dead_rows.without(inputs, self.accelerator)
            # Clip ratios are means over the rows that are computed, this share; the entropy is of all tokens.
            share = len(inputs["advantages"]) / len(given["advantages"])
            self._metrics["train"]["erpo/computed_rows"].append(share)
            if not len(inputs["advantages"]):
                self._metrics["train"]["entropy"].append(self._sampled_entropy)
                return self._no_loss(model)
            scale = dead_rows.loss_scale(given, inputs, self.loss_type)
        self._loss_inputs = inputs if getattr(self.args, "holder_start", None) is not None else None
        loss = super().compute_loss(model, inputs, *args, **kwargs) * scale
        if self._skips_dead_rows and self.model.training and self._credit is not None:
            self._metrics["train"]["entropy"][-1] = self._sampled_entropy
        if self._credit is None or torch.isfinite(loss):
            return loss
        # The policy broke after its batch was generated; TRL's loss has just read its entropies.
        broken = (~torch.isfinite(self._loss_entropy)).nonzero()  # type: ignore[arg-type]
        row, position = broken[0].tolist() if len(broken) else (0, 0)
        error = NonFiniteError("the loss or its entropy", row, position, len(broken[:, 0].unique()))
        if self.args.on_nonfinite == "stop":
            raise error.at_step(self.state.global_step)
        logger.warning(f"step {self.state.global_step}: {error}; skipped")
        return self._no_loss(model)

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

    def _log_tokens(self, out: dict, batch: CreditBatch, credit: Credit) -> None:
        """One column of the completions table, see LoggedTokens; `ui/library/completions.py` reads it."""
        vocabulary = self.accelerator.unwrap_model(self.model).config.get_text_config().vocab_size
        rows = logged_rows(out, batch, credit, temperature=self.temperature, vocab_size=vocabulary)
        self._logs["extra"]["erpo/tokens"].extend(gather_object(rows))
