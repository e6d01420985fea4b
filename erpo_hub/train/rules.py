"""The run doctor's rules over numbers: each looks at a run's history and says what is wrong, or nothing.

Thresholds and their reasons are in docs/doctor.md, measured by benchmarks/doctor.py. Standard library only.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from statistics import fmean, median

from .findings import LIKELY, SURE
from .history import EARLY, KEPT, Facts, History, Sign, apart, rose

# --- what is generated ------------------------------------------------------------------------------------


def cut_off(history: History, facts: Facts) -> Sign | None:
    share = history.mean("completions/clipped_ratio", 5)
    if share is None or share < 0.5:
        return None
    since = history.since("completions/clipped_ratio", lambda x: x >= 0.5, 5)
    limit = f" of {facts.completion_limit} tokens" if facts.completion_limit else ""
    what = f"{share:.0%} of the completions are cut off at the limit{limit}"
    return Sign(since, SURE if share >= 0.8 else LIKELY, what)


def groups_alike(history: History, right: bool) -> Sign | None:
    kind = "groups/all_right" if right else "groups/all_wrong"
    share, alike = history.mean(kind, 10), history.mean("groups/alike", 10)
    if share is None or alike is None or alike < 0.9 or share < alike / 2:
        return None
    since = history.since("groups/alike", lambda x: x >= 0.75, 10)
    how = "all right" if right else "all wrong"
    return Sign(
        since,
        SURE if alike >= 0.95 else LIKELY,
        f"in {alike:.0%} of the groups all rewards are equal, most {how}: such a group teaches nothing",
    )


def mark_missing(history: History, facts: Facts) -> Sign | None:
    asked, marked = history.values("texts/asked", 5), history.values("texts/marked", 5)
    if asked is None or marked is None or min(asked) < 0.9 or sum(marked) > 0:
        return None
    since = history.since("texts/marked", lambda x: x == 0, 5)
    return Sign(since, SURE, "the prompts ask for a mark around the answer and no completion has it")


def prompts_repeated(history: History, facts: Facts) -> Sign | None:
    mixed = history.mean("groups/mixed", 3)
    if mixed is not None and mixed >= 0.5:
        since = history.since("groups/mixed", lambda x: x >= 0.5, 3)
        return Sign(
            since, SURE, f"{mixed:.0%} of the groups mix questions, so rewards are compared across them"
        )
    again = history.mean("groups/repeated", 5)
    if again is None or again < 0.5:
        return None
    since = history.since("groups/repeated", lambda x: x >= 0.5, 5)
    return Sign(
        since, SURE, f"{again:.0%} of the questions were asked a short while ago, though there are many more"
    )


# --- the grader -------------------------------------------------------------------------------------------


def grader_accepts_everything(history: History, facts: Facts) -> Sign | None:
    right, differ = history.mean("texts/right", 5), history.mean("texts/different_accepted", 5)
    if right is None or differ is None or right < 0.98 or differ < 0.3:
        return None
    since = history.since("texts/right", lambda x: x >= 0.98, 5)
    what = f"different answers to one question are all right in {differ:.0%} of the groups"
    return Sign(since, SURE, f"the grader accepts everything: {what}")


def grader_accepts_nothing(history: History, facts: Facts) -> Sign | None:
    right, refused = history.values("texts/right", 5), history.mean("texts/gold_refused", 5)
    if right is None or refused is None or max(right) > 0 or refused < 0.05:
        return None
    since = history.since("texts/right", lambda x: x == 0, 5)
    what = f"{refused:.0%} of the completions end in the gold answer"
    return Sign(since, SURE, f"the grader accepts nothing, though {what}")


def grader_gives_out(history: History, facts: Facts) -> Sign | None:
    unscored = history.mean("texts/unscored", 5)
    if unscored is None or unscored < 0.1:
        return None
    since = history.since("texts/unscored", lambda x: x >= 0.05, 5)
    what = f"the grader gives no verdict on {unscored:.0%} of the completions: it times out or fails"
    return Sign(since, SURE if unscored >= 0.3 else LIKELY, what)


def hole_in_the_grader(history: History, name: str, what: str) -> Sign | None:
    rewarded, through = history.values("texts/rewarded", 5), history.values(name, 5)
    if rewarded is None or through is None or sum(rewarded) < 16 or sum(through) < 0.25 * sum(rewarded):
        return None
    since = history.since(name, lambda x: x > 0, 5)
    share = sum(through) / sum(rewarded)
    return Sign(since, SURE if share >= 0.5 else LIKELY, f"{share:.0%} of the rewarded completions {what}")


def rewards_in_conflict(history: History, facts: Facts) -> Sign | None:
    names = [name for name in history.late if name.startswith("rewards/") and name.endswith("/mean")]
    if len(names) < 2 or len(history.late[names[0]]) < EARLY + 5:
        return None
    trends = {name: apart(history.begun[name][:5], history.values(name, EARLY) or [0.0]) for name in names
              if len(history.late[name]) >= EARLY + 5}  # fmt: skip
    falling, rising = min(trends, key=trends.__getitem__), max(trends, key=trends.__getitem__)
    if trends[falling] > -3 or trends[rising] < 4:
        return None
    down, up = falling.split("/")[1], rising.split("/")[1]
    first = history.late[falling][-EARLY][0]
    return Sign(first, LIKELY, f"the reward {down} falls while {up} rises")


# --- the optimization -------------------------------------------------------------------------------------


def entropy_gone(history: History, facts: Facts) -> Sign | None:
    if history.step > facts.early:
        return None
    start, now = history.start("entropy", 3), history.mean("entropy", 3)
    if start is None or now is None or start < 0.02 or now > 0.2 * start:
        return None
    since = history.since("entropy", lambda x: x <= 0.2 * start, 1)
    what = f"entropy fell from {start:.3f} to {now:.3f} nats in the first tenth: nothing is left to explore"
    return Sign(since, SURE if now <= 0.1 * start else LIKELY, what)


def entropy_explodes(history: History, facts: Facts) -> Sign | None:
    start, now = history.start("entropy", 3), history.mean("entropy", 3)
    if start is None or now is None or now < 2 * start or now < start + 0.3 or rose(history, "reward") > 2:
        return None
    since = history.since("entropy", lambda x: x >= 1.5 * start, 3)
    what = f"entropy rose from {start:.2f} to {now:.2f} nats and the reward did not"
    return Sign(since, SURE if now >= 4 * start else LIKELY, what)


def length_explodes(history: History, facts: Facts) -> Sign | None:
    name = "completions/mean_length"
    start, now = history.start(name, 3), history.mean(name, 3)
    if start is None or now is None or now < 2 * start:
        return None
    fast = now >= 3 * start and history.step <= facts.early + KEPT
    if not fast and rose(history, "reward") > 2:
        return None
    since = history.since(name, lambda x: x >= 1.5 * start, 3)
    what = f"completions grew from {start:.0f} to {now:.0f} tokens" + ("" if fast else ", the reward did not")
    return Sign(since, SURE if now >= 3 * start else LIKELY, what)


def learning_rate_too_high(history: History, facts: Facts) -> Sign | None:
    """One strong sign, or two weak ones."""
    strong, weak = [], []
    kl, clipped = history.mean("kl", 3), history.mean("clip_ratio/region_mean", 3)
    if kl is not None and kl >= 1.0 and history.step <= max(50, facts.early):
        strong.append(("kl", f"KL is {kl:.2g} nats a token"))
    if clipped is not None and clipped >= 0.3:
        strong.append(("clip_ratio/region_mean", f"{clipped:.0%} of the tokens are clipped"))
    norms = history.values("grad_norm", 3)
    if norms and not all(map(math.isfinite, norms)):
        strong.append(("grad_norm", "the gradient is not finite"))
    elif norms and len(history.begun["grad_norm"]) >= 5:
        usual = median(history.begun["grad_norm"][:5])
        if usual > 0 and fmean(norms) >= 10 * usual:
            weak.append(
                ("grad_norm", f"the gradient norm is {fmean(norms) / usual:.0f} times that of the start")
            )
    moved = history.mean("weights/moved", 1)
    if moved is not None and moved >= 0.1 and not facts.lora:
        steps = history.mean("weights/steps", 1) or 0
        weak.append(("weights/moved", f"the weights moved by {moved:.0%} of their size in {steps:.0f} steps"))
    if rose(history, "reward", 5, 5) < -4 and (history.mean("reward", 5) or 0) < 0.5 * (
        history.start("reward") or 0
    ):
        weak.append(("reward", "the reward fell under half of what it was"))
    start, now = history.start("entropy", 3), history.mean("entropy", 3)
    if start and now is not None and (now >= start + 0.3 and now >= 2 * start or now <= 0.2 * start):
        weak.append(("entropy", f"entropy went from {start:.2g} to {now:.2g} nats"))
    if not strong and len(weak) < 2:
        return None
    told = [words for _, words in strong + weak]
    name = (strong + weak)[0][0]
    since = history.late[name][-min(3, len(history.late[name]))][0]
    certainty = SURE if len(told) > 1 or "not finite" in told[0] else LIKELY
    return Sign(since, certainty, "the policy runs away: " + ", ".join(told))


def learning_rate_too_low(history: History, facts: Facts) -> Sign | None:
    """Ten steps are behind, some groups taught something, and the weights are as good as where they were."""
    changed, moved = history.mean("weights/changed", 1), history.mean("weights/moved", 1)
    steps = history.mean("weights/steps", 1)
    if changed is None or moved is None or not steps or steps < 10 or not _taught(history):
        return None
    at = history.late["weights/changed"][0][0]
    if facts.half and changed < 0.02:
        return Sign(
            at, LIKELY, f"only {changed:.1%} of the weights changed at all: bf16 rounds such steps away"
        )
    rates = [rate for _, rate in history.late["learning_rate"]] or [facts.learning_rate]
    whole = moved / steps * facts.max_steps
    whole *= (
        facts.learning_rate / max(fmean(rates), 1e-30) if rates[-1] > rates[0] else 1.0
    )  # still warming up
    if whole >= 1e-4:
        return None
    what = f"nothing moves: at this pace the whole run changes the weights by {whole:.1g} of their size"
    return Sign(at, SURE if whole < 1e-5 else LIKELY, what)


def lora_trains_nothing(history: History, facts: Facts) -> Sign | None:
    changed = history.mean("weights/changed", 1)
    if not facts.lora or changed is None or changed > 0 or not _taught(history):
        return None
    at = history.late["weights/changed"][0][0]
    return Sign(at, SURE, "not one weight of the adapter has changed, though there was something to learn")


def _taught(history: History) -> bool:
    """Whether any group had rewards that differ."""
    return any(share < 1 for _, share in history.late["frac_reward_zero_std"])


def reference_differs(history: History, facts: Facts) -> Sign | None:
    """Before the first update the two are one model; later nothing can be said."""
    if history.step > 1:
        return None
    kl, progress = history.mean("kl", 1), history.mean("erpo/progress_std", 1)
    rounded = facts.half or facts.autocast
    noise = 0.05 if rounded else 0.01
    if kl is not None and kl > noise:
        return Sign(
            0, SURE if kl > 5 * noise else LIKELY, f"KL is {kl:.2g} nats a token before the first update"
        )
    if progress is not None and progress > 0.1 and not rounded:
        return Sign(
            0, LIKELY, f"erpo/progress_std is {progress:.2g} before the first update, where it should be 0"
        )
    return None


def memory_grows(history: History, facts: Facts) -> Sign | None:
    """Read at every other step, not while the run warms up: four times two readings."""
    used, peak = history.values("memory/used", 8), history.mean("memory/peak", 1)
    if not used or not peak or not facts.memory_limit:
        return None
    floors = [min(used[i : i + 2]) for i in range(0, 8, 2)]
    grown = [after - before for before, after in zip(floors, floors[1:])]
    if min(grown) < 0.25 * max(grown) or sum(grown) < 0.002 * facts.memory_limit:
        return None
    at, last = (history.late["memory/used"][i][0] for i in (-8, -1))
    pace = sum(grown) / (6 * (last - at) / 7)
    full = (facts.memory_limit - peak) / pace
    if full >= facts.max_steps - history.step:
        return None
    return Sign(
        at, LIKELY, f"memory grows by {pace / 2**20:.0f} MiB a step: full in about {max(full, 0):.0f} steps"
    )


RULES: dict[str, Callable[[History, Facts], Sign | None]] = {
    "reference-differs": reference_differs,
    "prompts-repeated": prompts_repeated,
    "grader-accepts-everything": grader_accepts_everything,
    "grader-accepts-nothing": grader_accepts_nothing,
    "grader-gives-out": grader_gives_out,
    "question-echoed": lambda h, f: hole_in_the_grader(
        h, "texts/echoed", "repeat the question as the answer"
    ),
    "arithmetic-undone": lambda h, f: hole_in_the_grader(
        h, "texts/undone", "leave the arithmetic to the grader"
    ),
    "mark-missing": mark_missing,
    "lora-trains-nothing": lora_trains_nothing,
    "learning-rate-too-high": learning_rate_too_high,
    "learning-rate-too-low": learning_rate_too_low,
    "rewards-in-conflict": rewards_in_conflict,
    "entropy-gone": entropy_gone,
    "entropy-explodes": entropy_explodes,
    "length-explodes": length_explodes,
    "cut-off": cut_off,
    "groups-all-right": lambda h, f: groups_alike(h, right=True),
    "groups-all-wrong": lambda h, f: groups_alike(h, right=False),
    "memory-grows": memory_grows,
}  # the order matters: a kind that implies others stands before them
