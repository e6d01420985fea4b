"""Swapped tokens on tiny random models: what comes out is the text that the two models would write."""

import json
import random

import pytest
import torch
from tiny_models import save_tiny_model
from typer.testing import CliRunner

from erpo_hub.cli.main import app as commands_app
from erpo_hub.errors import UsageError, UserError
from erpo_hub.evaluation.generation import Decoding
from erpo_hub.evaluation.lockstep import walk
from erpo_hub.publish.bundle import build_bundle
from erpo_hub.publish.check import check_bundle
from erpo_hub.record.format import read_record
from erpo_hub.study.swaps import RULES
from erpo_hub.study.transplant import transplant
from erpo_hub.tasks.tasks import load_task
from erpo_hub.traces.decoding import decode
from erpo_hub.traces.loading import load
from tests.hub_server.sample_run import example_run

DECODING = Decoding(0.0, 1.0, 10, 0, (1,))


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    return [save_tiny_model(tmp_path_factory.mktemp("models") / str(seed), seed=seed) for seed in (0, 1)]


@pytest.fixture(scope="module")
def pair(folders):
    return [load(folder)[0] for folder in folders]


@pytest.fixture(scope="module")
def prompts(folders):
    tokenizer = load(folders[0])[1]
    return tokenizer(["1+2=", "3*4-1+5=", "9=", "7-1=", "2+2="])["input_ids"]


@pytest.fixture
def task(tmp_path):
    path = tmp_path / "sums.jsonl"
    rows = [{"prompt": f"{a}+{a + 1}=", "answer": str(2 * a + 1)} for a in range(1, 41)]
    path.write_text("\n".join(json.dumps(row) for row in rows))
    return load_task(str(path), test_size=6)


def greedy(model, ids, length=10):
    made = []
    for _ in range(length):
        with torch.no_grad():
            made.append(int(model(torch.tensor([ids + made])).logits[0, -1].argmax()))
        if made[-1] == 1:
            break
    return made


def test_the_leader_writes_what_it_writes_alone_and_both_say_what_they_want(pair, prompts):
    leader, follower = pair
    for one, prompt in zip(walk(leader, follower, prompts, DECODING, batch_size=3), prompts, strict=True):
        assert one.ids == one.leads == greedy(leader, prompt)
        for t in range(len(one.ids)):
            with torch.no_grad():
                lead, follow = (
                    m(torch.tensor([prompt + one.ids[:t]])).logits[0, -1].log_softmax(-1) for m in pair
                )
            assert one.follows[t] == int(follow.argmax())
            assert one.lead_entropy[t] == pytest.approx(-float((lead.exp() * lead).sum()), abs=1e-5)
            assert one.follow_entropy[t] == pytest.approx(-float((follow.exp() * follow).sum()), abs=1e-5)
            assert one.lead_rank[t] == int((follow > follow[one.leads[t]]).sum())
            assert one.follow_rank[t] == int((lead > lead[one.follows[t]]).sum())
            mean = ((lead.exp() + follow.exp()) / 2).log()
            wanted = sum(float((x.exp() * (x - mean)).sum()) for x in (lead, follow)) / 2
            assert one.divergence[t] == pytest.approx(wanted, abs=1e-5)


def test_after_a_swap_the_leader_goes_on_from_the_followers_token(pair, prompts):
    leader, follower = pair
    walks = walk(leader, follower, prompts, DECODING)
    begun = [one.swapped(one.disagreements()[0]) for one in walks]
    for one, start, prompt in zip(walk(leader, follower, prompts, DECODING, begun), begun, prompts):
        at = len(start.ids) - 1
        assert one.ids[at] == one.follows[at] != one.leads[at]
        rest = [] if one.ids[at] == 1 else greedy(leader, prompt + one.ids[: at + 1], 9 - at)
        assert one.ids[at + 1 :] == rest


class Parity:
    """Right when the characters add up to an even number."""

    def grade(self, completions, answers, **columns):
        return [float(sum(map(ord, text)) % 2 == 0) for text in completions]


def test_with_a_swap_at_every_place_the_base_writes_the_trained_models_answer(folders, task):
    base, trained = folders
    found = transplant(base, trained, task, n=6, swaps=[1, 10], max_new_tokens=10, grader=Parity())
    assert found.curves["first disagreement"][10] == found.correct["trained"]
    assert found.back["first disagreement"][10] == found.correct["base"]
    assert set(found.curves) == set(RULES)
    assert {row["swaps"] for row in found.points()} == {1, 10}
    changed = found.changed
    assert 0 < changed["places"] == sum(changed["ranks"]) <= changed["tokens"]
    assert changed["at_pivots"] <= min(changed["places"], changed["pivots"])
    assert sum(count for _, count in changed["promoted"]) <= changed["places"]
    assert "| first disagreement | 10 |" in found.table()


def literally(leader, follower, prompt, rule, swaps, seed, q):
    """The definition, word for word: decode, swap, decode again from there; one forward pass a token."""
    ids, last = greedy(leader, prompt), -1
    for swap in range(1, swaps + 1):
        logits = [m(torch.tensor([prompt + ids])).logits[0, len(prompt) - 1 : -1] for m in (leader, follower)]
        logp, logq = (x.log_softmax(-1) for x in logits)
        wanted = logq.argmax(-1).tolist()
        entropy = -(logp.exp() * logp).sum(-1)
        mean = ((logp.exp() + logq.exp()) / 2).log()
        divergence = sum((x.exp() * (x - mean)).sum(-1) for x in (logp, logq))
        allowed = [t for t, a in enumerate(logp.argmax(-1).tolist()) if a != wanted[t]]
        if rule == "strongest pivot":
            allowed = [t for t in allowed if entropy[t] > entropy.double().quantile(0.75)]
        if rule == "random position":
            allowed = list(range(len(ids)))
        allowed = [t for t in allowed if t > last]
        if not allowed:
            break
        measure = {"largest divergence": divergence, "strongest pivot": entropy}.get(rule)
        if rule.startswith("random"):
            last = random.Random(f"{seed} {q} {swap}").choice(allowed)
        else:
            last = allowed[0] if measure is None else max(allowed, key=lambda t: float(measure[t]))
        if ids[last] != wanted[last]:
            ids = [*ids[:last], wanted[last]]
            ids += [] if ids[-1] == 1 or last == 9 else greedy(leader, prompt + ids, 9 - last)
    return ids


@torch.no_grad()
def test_scores_are_those_of_the_definition(folders, pair, task):
    tokenizer = load(folders[0])[1]
    found = transplant(*folders, task, n=6, swaps=[1, 2, 4], max_new_tokens=10, seed=3, grader=Parity())
    prompts = tokenizer(list(task.test["prompt"]))["input_ids"]
    for curves, models in ((found.curves, pair), (found.back, pair[::-1])):
        for rule, curve in curves.items():
            for swaps, (scores,) in curve.items():
                ends = [literally(*models, ids, rule, swaps, 3, q) for q, ids in enumerate(prompts)]
                texts = [decode(tokenizer, ids) for ids in ends]
                assert scores == Parity().grade(texts, None), (rule, swaps)


def test_a_model_against_itself_has_no_gain_to_speak_of(folders, task, tmp_path):
    found = transplant(folders[0], [folders[0], folders[0]], task, n=4, max_new_tokens=6, grader=Parity())
    assert found.changed["places"] == 0
    assert all(row["recovered"] is None for row in found.points())
    assert "too little" in found.sentence()
    data = json.loads(found.to_json(tmp_path / "transplant.json").read_text())
    assert data["correct"]["base"] == data["correct"]["trained"]
    assert found.figure(tmp_path / "recovery.png").read_bytes()[:4] == b"\x89PNG"


def test_what_cannot_work_is_said(folders, task, tmp_path):
    other = save_tiny_model(tmp_path / "other", alphabet="0123456789+=")
    with pytest.raises(UserError, match="different vocabularies"):
        transplant(folders[0], other, task, n=2)
    with pytest.raises(UsageError, match="at least 1"):
        transplant(folders[0], folders[1], task, n=2, swaps=[0])
    with pytest.raises(UserError, match="held-out questions, not 7"):
        transplant(folders[0], folders[1], task, n=7)


def test_the_command_writes_its_files_and_puts_the_result_on_the_card_of_its_bundle(folders, task, tmp_path):
    bundle = build_bundle(example_run(), folders[1], tmp_path / "bundle", figures=False).folder
    arguments = ["transplant", *map(str, folders), task.spec, "-n", "4", "--max-new-tokens", "6"]
    arguments += ["--out", str(tmp_path / "out"), "--bundle", str(bundle)]
    done = CliRunner().invoke(commands_app, arguments, catch_exceptions=False)
    assert "| first disagreement | 1 |" in done.output
    assert {p.name for p in (tmp_path / "out").iterdir()} == {"transplant.json", "recovery.png"}
    assert read_record(bundle).transplant.n == 4
    assert "## Which tokens training changed" in (bundle / "README.md").read_text()
    assert check_bundle(bundle) == []
    wrong = ["transplant", *map(str, folders), task.spec, "--bundle", str(tmp_path)]
    with pytest.raises(UsageError, match="is not a bundle"):
        CliRunner().invoke(commands_app, wrong, catch_exceptions=False)


def test_every_rule_is_one_that_a_reader_of_the_record_knows():
    from erpo_hub.record.recovery import KNOWN
    from erpo_hub.study.swaps import RULES

    assert tuple(RULES) == KNOWN
