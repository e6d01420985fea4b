"""A small table of facts whose texts come from runs and models: cells by `textContent`, nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import gradio as gr

_TEMPLATE = (
    '<div class="facts"><p class="facts-text" role="status"></p><div class="facts-box"></div>'
    '<p class="facts-note"></p></div>'
)
_SCRIPT = """
const part = (name) => element.querySelector(".facts-" + name);
function cell(tag, text, row) {
  const node = document.createElement(tag);
  node.textContent = text;
  if (tag === "th") node.scope = row ? "row" : "col";
  return node;
}
function draw() {
  const data = props.value ? JSON.parse(props.value) : {};
  part("text").textContent = data.text || "";
  part("text").hidden = !data.text;
  part("text").classList.toggle("erpo-error", !!data.error);
  part("text").setAttribute("role", data.error ? "alert" : "status");
  part("note").textContent = data.note || "";
  const box = part("box");
  box.textContent = "";
  if (!data.rows || !data.rows.length) return;
  const table = document.createElement("table"), head = document.createElement("tr");
  for (const name of data.head) head.appendChild(cell("th", name, false));
  table.appendChild(document.createElement("thead")).appendChild(head);
  const body = table.appendChild(document.createElement("tbody"));
  for (const values of data.rows) {
    const row = body.appendChild(document.createElement("tr"));
    values.forEach((value, i) => row.appendChild(cell(i ? "td" : "th", value, true)));
  }
  box.appendChild(table);
}
draw();
watch("value", draw);
"""
CSS = """
.facts [hidden] { display: none; }
.facts p { margin: 4px 0; font-size: 14px; max-width: 110ch; }
.facts-text { color: var(--body-text-color-subdued); }
.facts-box { overflow-x: auto; }
.facts table { border-collapse: collapse; font-size: 14px; }
.facts th, .facts td { text-align: left; padding: 4px 14px 4px 0; vertical-align: top; }
.facts th, .facts td { overflow-wrap: break-word; max-width: 36ch; font-variant-numeric: tabular-nums; }
.facts tr { border-bottom: 1px solid var(--border-color-primary); }
.facts tbody th { font-weight: 600; }
.facts thead th { color: var(--body-text-color-subdued); font-weight: 500; }
"""


def facts_table(elem_id: str, label: str, value: dict[str, Any] | None = None) -> gr.HTML:
    """A `gr.HTML` fed with {"text", "error", "head", "rows", "note"}, all optional, texts only."""
    import gradio as gr

    return gr.HTML(
        encode(value or {}),
        html_template=_TEMPLATE,
        js_on_load=_SCRIPT,
        elem_id=elem_id,
        label=label,
        apply_default_css=False,
    )


def encode(value: dict[str, Any]) -> str:
    """The table's JSON, without a "<"."""
    import json

    return json.dumps(value, ensure_ascii=False).replace("<", "\\u003c")
