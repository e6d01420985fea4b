"""A method of one's own: a token counts more where the group's completions still running are less certain."""

from erpo_hub import Credit, CreditBatch, ERPOConfig, ERPOTrainer, Grader, load_task
from erpo_hub.tasks.grading import correctness_reward
from erpo_hub.traces.loading import resolve_model


def credit(batch: CreditBatch) -> Credit:
    running = batch.group_sums(batch.mask.float())  # (groups, T), right when processes share a group, too
    entropy = batch.group_sums(batch.entropy.masked_fill(~batch.mask, 0))  # (groups, T) nats
    level = (entropy / running.clamp(min=1))[batch.group_index] * batch.mask  # (B, T)
    mean = level.sum(1, keepdim=True) / batch.mask.sum(1, keepdim=True).clamp(min=1)  # (B, 1)
    weight = level / mean.clamp(min=1e-4)
    return Credit(batch.advantages[:, None] * weight, {"weight": weight})


def main(output_dir: str = "runs/own-method", **options) -> ERPOTrainer:
    task = load_task("builtin:expressions?operands=4")
    args = ERPOConfig(output_dir, **{"max_steps": 20, "max_completion_length": 64, "bf16": False} | options)
    with Grader(task.grader) as grader:
        reward, model = correctness_reward(grader), resolve_model("builtin:tiny-reasoner")
        trainer = ERPOTrainer(model, reward, args, train_dataset=task.train, credit=credit)
        trainer.train()
    return trainer


if __name__ == "__main__":
    main()
