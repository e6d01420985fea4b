"""Chat templates that would take any time and memory: one line within seconds; others render as ever."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
from tiny_models import save_chat_model

from erpo_hub.errors import UserError
from erpo_hub.traces import rendering
from erpo_hub.traces.asked import Asked, asked_as, encode
from erpo_hub.traces.engine import Engine
from erpo_hub.traces.loading import load_tokenizer

MESSAGES = [[{"role": "user", "content": "1+1="}], [{"role": "user", "content": "2+2="}]]
NESTED = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"
HOSTILE = {
    "loops in loops": NESTED,
    "a long text": "{{ 'a' * 10**9 }}",
    "a long text, folded": "{% set x = 'a' * 3000000000 %}{{ x | length }}",
    "doubling": "{% set n = namespace(x='a') %}{% for i in range(60) %}{% set n.x = n.x ~ n.x %}{% endfor %}",
    "a tower": "{{ 9 ** (9 ** 9) > 0 }}",
    "wide": "{{ '%2000000000d' % 1 }}",
    "centred": "{{ 'a' | center(3000000000) }}",
    "recursion": "{% macro f(n) %}{{ f(n + 1) }}{{ f(n + 1) }}{% endmacro %}{{ f(0) }}",
    "a tree": "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(60) }}",
    "a recursive loop": "{% for m in [messages] recursive %}{{ loop([m]) }}{% endfor %}",
    "only the second question": "{% if messages[0].content == '2+2=' %}" + NESTED + "{% endif %}",
    "many messages": "{% for a in messages * 10**9 %}{% endfor %}",
}
SOUND = {
    "one loop": "{% for m in messages %}<{{ m.role }}>{{ m['content'] }}{% endfor %}"
    "{% if add_generation_prompt %}A{% endif %}",
    "settings": "{{ bos_token }}{{ messages[0].content }}{{ '' if thinking else '<no>' }}",
    "a macro": "{% macro f(m) %}[{{ m.content | trim }}]{% endmacro %}"
    "{% for m in messages %}{{ f(m) }}{% endfor %}",
    "a namespace": "{% set n = namespace(i=0) %}{% for m in messages[::-1] %}"
    "{% set n.i = n.i + 1 %}{{ n.i }}{% endfor %}",
}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return save_chat_model(tmp_path_factory.mktemp("stranger") / "model")


@pytest.fixture
def tokenizer(model):
    return load_tokenizer(str(model))


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_template_that_takes_too_much_is_one_line(tokenizer, kind, monkeypatch):
    monkeypatch.setattr(rendering, "SECONDS", 1.0)
    tokenizer.chat_template = HOSTILE[kind]
    assert not rendering.is_plain(HOSTILE[kind])
    encode_or_not(tokenizer)  # the process may have to start
    started, before = time.monotonic(), psutil.Process().memory_info().rss
    told = encode_or_not(tokenizer)
    assert told
    assert "\n" not in told
    assert time.monotonic() - started < 30  # 1 s of CPU time, on a busy machine
    assert psutil.Process().memory_info().rss - before < 100 << 20
    tokenizer.chat_template = SOUND["a macro"]
    assert encode_or_not(tokenizer) == ""  # and the next one is rendered again


def encode_or_not(tokenizer) -> str:
    try:
        encode(tokenizer, MESSAGES, Asked())
    except UserError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("kind", SOUND)
def test_a_sound_template_gives_what_the_library_gives(tokenizer, kind):
    tokenizer.chat_template = SOUND[kind]
    asked = Asked(chat_template_kwargs={"thinking": True})
    wanted = tokenizer.apply_chat_template(
        MESSAGES, add_generation_prompt=True, tokenize=True, return_dict=True, thinking=True
    )["input_ids"]
    assert encode(tokenizer, MESSAGES, asked) == wanted
    assert rendering.is_plain(SOUND[kind]) == (kind in ("one loop", "settings"))


@pytest.mark.parametrize("name", ["tokenize", "chat_template", "add_generation_prompt"])
def test_settings_of_the_library_are_not_the_templates(tokenizer, name):
    with pytest.raises(UserError, match="is not a template's"):
        encode(tokenizer, MESSAGES, Asked(chat_template_kwargs={name: "x"}))


def test_the_engine_tells_it_in_one_line(model, tmp_path, monkeypatch):
    monkeypatch.setattr(rendering, "SECONDS", 1.0)
    folder = Path(shutil.copytree(model, tmp_path / "model"))
    (folder / "chat_template.jinja").write_text(NESTED)
    engine = Engine.load(folder)
    with pytest.raises(UserError, match="its chat template takes more than"):
        engine.trace("1+1=", max_new_tokens=4)
    assert asked_as(engine.tokenizer).plain is False


@pytest.mark.parametrize("where", ["special tokens", "settings", "messages"])
def test_a_plain_template_that_names_a_long_text_often_is_not_rendered_here(where, monkeypatch):
    long = "x" * 500_000
    special, asked = {"bos_token": long}, {"x": long}
    template = {"special tokens": "{{ bos_token }}", "settings": "{{ x }}", "messages": "{{ messages }}"}[
        where
    ] * 500
    text = long if where == "messages" else "1+1="
    made = SimpleNamespace(get_chat_template=lambda: template, special_tokens_map=special)
    assert rendering.is_plain(template)
    monkeypatch.setattr(rendering, "_apply", lambda *_: pytest.fail("rendered in this process"))
    with pytest.raises(ValueError, match="comes to more than"):
        rendering.render(made, [[{"role": "user", "content": text}]], asked)


def test_an_answer_that_nobody_waited_for_is_not_the_next_ones(tokenizer, monkeypatch):
    tokenizer.chat_template = SOUND["a macro"]
    wanted = encode(tokenizer, MESSAGES, Asked())
    monkeypatch.setattr(rendering, "_receive", interrupted)
    with pytest.raises(KeyboardInterrupt):
        encode(tokenizer, MESSAGES[:1], Asked())
    monkeypatch.undo()
    assert encode(tokenizer, MESSAGES, Asked()) == wanted


def interrupted(_stream):
    raise KeyboardInterrupt


def test_no_module_of_the_working_folder_is_imported(model, tmp_path):
    """Whoever looks at a stranger's model from inside its folder runs none of its files."""
    folder = Path(shutil.copytree(model, tmp_path / "model"))
    for name in ("jinja2", "json", "pickle", "transformers"):
        (folder / f"{name}.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    (tmp_path / "look.py").write_text(f"""
from erpo_hub.traces.asked import Asked, encode
from erpo_hub.traces.loading import load_tokenizer
tokenizer = load_tokenizer(".")
tokenizer.chat_template = {SOUND["a macro"]!r}
print(len(encode(tokenizer, {MESSAGES!r}, Asked())))
""")
    done = subprocess.run(
        [sys.executable, tmp_path / "look.py"], cwd=folder, capture_output=True, text=True, check=False
    )
    assert (done.stdout, (tmp_path / "ran").exists()) == ("2\n", False), done.stderr[-500:]


def test_the_process_ends_with_its_owner(model):
    script = f"""if True:
        import json, os, psutil
        from erpo_hub.traces.asked import Asked, encode
        from erpo_hub.traces.loading import load_tokenizer
        tokenizer = load_tokenizer({str(model)!r})
        tokenizer.chat_template = {SOUND["a macro"]!r}
        encode(tokenizer, {MESSAGES!r}, Asked())
        print(json.dumps([child.pid for child in psutil.Process().children()]), flush=True)
        os.kill(os.getpid(), 9)
    """
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    pids = json.loads(done.stdout)
    assert len(pids) == 1, done.stderr[-500:]
    deadline = time.monotonic() + 20
    while any(psutil.pid_exists(pid) and psutil.Process(pid).status() != "zombie" for pid in pids):
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.mark.parametrize(
    ("name", "template"),
    [("../../../elsewhere", "x"), ("a\0b", "x"), ("", "x"), ("more", "\ud800"), ("/tmp/x", "x")],
)
def test_a_template_that_cannot_be_saved_into_its_folder_is_refused(name, template, tmp_path):
    folder = Path(save_chat_model(tmp_path / "model"))
    config = json.loads((folder / "tokenizer_config.json").read_text())
    config["chat_template"] = [{"name": n, "template": t} for n, t in (("default", "x"), (name, template))]
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    (folder / "chat_template.jinja").unlink(missing_ok=True)
    with pytest.raises(UserError, match="its tokenizer cannot be loaded"):
        load_tokenizer(str(folder))


def test_further_templates_with_ordinary_names_stay(tmp_path):
    folder = Path(save_chat_model(tmp_path / "model"))
    config = json.loads((folder / "tokenizer_config.json").read_text())
    config["chat_template"] = [{"name": n, "template": "x"} for n in ("default", "tool_use", "rag-2")]
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    (folder / "chat_template.jinja").unlink(missing_ok=True)
    load_tokenizer(str(folder)).save_pretrained(tmp_path / "saved")
    assert len(load_tokenizer(str(tmp_path / "saved")).chat_template) == 3
