"""The one loader of causal language models and tokenizers: the embedded model, a Hub id, a folder, a GGUF
file, an adapter on its base.

Safetensors and GGUF only: a checkpoint that exists only as a pickle is refused, because unpickling runs
code. Code that a checkpoint brings is never run and never asked about. Every way to fail is one UserError.
The trainer loads its policy through TRL, which places it among processes; it asks `model_source` first.
"""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from ..errors import UserError
from ..paths import expanded
from ..text import one_line
from .asked import asked_as
from .on_hub import check_on_hub
from .sizes import check_sizes

# what the libraries below raise for a missing, damaged or foreign file, as seen with such files
_DAMAGE = (
    *(OSError, ValueError, TypeError, LookupError, AttributeError, ImportError, RuntimeError),
    *(EOFError, ArithmeticError, AssertionError, MemoryError, struct.error),
)
EMBEDDED_MODEL = "builtin:tiny-reasoner"
_TEMPLATE_NAME = re.compile(r"[\w-]{1,100}", re.ASCII)
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")


def resolve_model(name: str) -> str:
    """The folder of the embedded model for `builtin:tiny-reasoner`; any other name as it is."""
    return str(Path(__file__).parents[1] / "tiny_reasoner") if name == EMBEDDED_MODEL else name


def load(
    model: str | Path,
    *,
    revision: str | None = None,
    adapter: str | Path | None = None,
    device: str | torch.device | None = None,
    dtype: str | torch.dtype | None = None,
) -> tuple[Any, Any]:
    """(model in eval mode on its device, tokenizer). See `Engine.load` for the parameters."""
    name, adapter_revision = resolve_model(str(model)), None
    _check_revision(name, revision)
    _where(name, revision)  # a folder that is not there is asked for nowhere else
    place = torch.device(device or best_device())
    if adapter is None and (config := _adapter_config(name, revision)) is not None:
        name, adapter = _base_of(name, config), name
        revision, adapter_revision = config.get("revision"), revision
    where = _where(name, revision)
    _check_folder(name, where)
    if adapter is not None and _adapter_config(name, revision) is not None:
        raise UserError(
            f"{name}: is an adapter itself, not the base of {adapter}: merge it into its base first"
        )
    lm = _load_model(name, where, _dtype(dtype, place))
    folder = None if adapter is None else _adapter_folder(str(adapter), adapter_revision)
    if folder is not None and (folder / "tokenizer_config.json").is_file():  # says how the model was asked
        tokenizer = _load_tokenizer(str(adapter), _where(str(folder), None))
    else:
        tokenizer = _load_tokenizer(name, where)
    if dtype is None and (trained := asked_as(tokenizer).dtype):
        lm = lm.to(_dtype(trained, place))
    if folder is not None:
        lm = _with_adapter(lm, str(adapter), folder)
    return lm.to(place).eval(), tokenizer


def load_tokenizer(name: str, revision: str | None = None) -> Any:
    """The tokenizer of a model, by the same names and rules as `load`."""
    return _load_tokenizer(name, _where(resolve_model(name), revision))


def model_source(name: str, revision: str | None = None) -> str:
    """The folder or Hub id of a model to train, for TRL's loader, after `load`'s refusals of a folder."""
    _check_revision(resolve_model(name), revision)
    where = _where(resolve_model(name), revision)
    if "gguf_file" in where:
        raise UserError(f"{name}: a GGUF file cannot be trained: give the model it was made from")
    _check_folder(name, where)
    _adapter_config(resolve_model(name), revision)  # its refusals
    with one_error(name):
        check_sizes(name, where)
    return str(where["pretrained_model_name_or_path"])


def best_device() -> str:
    """A GPU where there is one: "cuda", "mps" or "cpu"."""
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def _dtype(dtype: str | torch.dtype | None, place: torch.device) -> str | torch.dtype:
    """float32 on a CPU, where half precision is slow and coarse; the checkpoint's own elsewhere."""
    if dtype is None:
        return torch.float32 if place.type == "cpu" else "auto"
    if isinstance(dtype, str) and dtype != "auto":
        found = getattr(torch, dtype, None)
        if found not in (torch.float32, torch.bfloat16, torch.float16, torch.float64):
            raise UserError(f"dtype {dtype!r} is unknown: use float32, bfloat16, float16 or auto")
        return found
    return dtype


def _where(name: str, revision: str | None) -> dict[str, Any]:
    """The arguments of `from_pretrained` that say where the files are."""
    if not name:
        raise UserError("the model's name is empty: give a folder, a GGUF file or a Hub id")
    path = expanded(name)
    if path.suffix == ".gguf":
        if not path.is_file():
            raise UserError(f"{name}: no such GGUF file")
        return {"pretrained_model_name_or_path": str(path.parent), "gguf_file": path.name}
    if path.is_dir():
        return {"pretrained_model_name_or_path": str(path)}
    if path.exists() or path.is_absolute() or name.startswith((".", "~")) or name.count("/") > 1:
        raise UserError(f"no such folder: {name}; give a folder, a GGUF file or a Hub id")
    check_on_hub(name, revision)
    return {"pretrained_model_name_or_path": name, "revision": revision}


def _check_revision(name: str, revision: str | None) -> None:
    """A folder has no revisions: what was asked for might be other weights than these."""
    if revision is not None and expanded(name).exists():
        raise UserError(f"revision={revision!r}: only a model on the Hub has revisions; leave it out")


def _check_folder(name: str, where: dict[str, Any]) -> None:
    """Refuse a folder without a config, and one whose weights are only in a pickle."""
    folder = Path(where["pretrained_model_name_or_path"])
    if "gguf_file" in where or not folder.is_dir():
        return
    if not (folder / "config.json").is_file():
        raise UserError(f"{name}: the folder has no config.json: give the folder of a model")
    pickles = sorted(p.name for pattern in _PICKLES for p in folder.glob(pattern))
    if pickles and not any(folder.glob("*.safetensors")):
        raise UserError(
            f"{name}: its weights are only in {pickles[0]}, a pickle, which is not loaded because it can run"
            " code; save it again as safetensors"
        )


@contextmanager
def one_error(name: str) -> Iterator[None]:
    """Whatever the libraries raise for a missing, damaged or foreign model becomes one UserError."""
    from huggingface_hub.errors import StrictDataclassError
    from safetensors import SafetensorError

    try:
        yield
    except (*_DAMAGE, SafetensorError, StrictDataclassError) as e:
        raise UserError(f"{name}: the model cannot be loaded ({one_line(e)})") from e


def _load_model(name: str, where: dict[str, Any], dtype: str | torch.dtype) -> Any:
    from transformers import AutoModelForCausalLM

    with one_error(name):
        check_sizes(name, where)
    options: dict[str, Any] = {
        **where,
        "dtype": dtype,
        "output_loading_info": True,
        "trust_remote_code": False,
    }
    if "gguf_file" not in where:
        options["use_safetensors"] = True
    with one_error(name):
        loaded: Any = AutoModelForCausalLM.from_pretrained(**options)
    lm, info = loaded
    if missing := sorted(info.get("missing_keys") or []):
        raise UserError(
            f"{name}: the checkpoint lacks {len(missing)} weights ({missing[0]}); it is incomplete"
        )
    return lm


def _load_tokenizer(name: str, where: dict[str, Any]) -> Any:
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(**where, trust_remote_code=False)
        tokenizer("1")  # wrong settings show when it is used
        _check_savable(tokenizer)
    except _DAMAGE as e:
        raise UserError(f"{name}: its tokenizer cannot be loaded ({one_line(e)})") from e
    return tokenizer


def _check_savable(tokenizer: Any) -> None:
    """Raises ValueError for what would stop a save, or lead it out of its folder: each further template
    becomes a file of its name."""
    templates = tokenizer.chat_template
    for name in templates if isinstance(templates, dict) else ():
        if not _TEMPLATE_NAME.fullmatch(str(name)):
            raise ValueError(f"a chat template of the name {name!r:.100}")
    json.dumps([tokenizer.init_kwargs, templates], default=str, ensure_ascii=False).encode()


def _adapter_config(name: str, revision: str | None) -> dict[str, Any] | None:
    """The adapter's own config when `name` is an adapter (a folder, or a Hub repository), else None."""
    path = expanded(name)
    file = None
    if path.is_dir():
        file = path / "adapter_config.json"
    elif name.count("/") == 1 and path.suffix != ".gguf" and not path.exists() and not path.is_absolute():
        file = _hub_adapter_config(name, revision)
    if file is None or not file.exists():
        return None
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as e:
        raise UserError(f"{name}: adapter_config.json is not readable ({one_line(e)})") from e
    revision = config.get("revision") if isinstance(config, dict) else config
    if not isinstance(revision, str | None):
        raise UserError(f"{name}: adapter_config.json is not that of an adapter")
    if config.get("megatron_config"):  # peft would import the module that it names
        raise UserError(f"{name}: its adapter_config.json asks for Megatron's code, which is not run")
    return config


def _hub_adapter_config(name: str, revision: str | None) -> Path | None:
    """The file in the cache, fetched if need be. A repository whose config.json is cached is not asked."""
    from huggingface_hub import hf_hub_download, try_to_load_from_cache
    from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError

    try:
        if isinstance(try_to_load_from_cache(name, "config.json", revision=revision), str):
            found = try_to_load_from_cache(name, "adapter_config.json", revision=revision)
            return Path(found) if isinstance(found, str) else None
        return Path(hf_hub_download(name, "adapter_config.json", revision=revision))
    except EntryNotFoundError:
        return None  # the usual case: a model
    except (HfHubHTTPError, OSError, ValueError) as e:  # no such repository, no access, no valid id
        raise UserError(f"{name}: not found on the Hub ({one_line(e)})") from e


def _base_of(name: str, config: dict[str, Any]) -> str:
    """Where an adapter's base is: its config's Hub id or folder, or the folder that the run beside it names.

    A bundle names a local base without its path, which is nobody else's; the run's own model/ keeps it.
    """
    base = config.get("base_model_name_or_path")
    if not base or not isinstance(base, str):
        raise UserError(
            f"{name}: an adapter whose config names no base model; load the base and pass adapter={name!r}"
        )
    if not expanded(name).is_dir():  # a stranger's, which leads to no folder of this machine
        if base != EMBEDDED_MODEL and (expanded(base).exists() or Path(base).is_absolute()):
            raise UserError(f"{name}: its base {base} is a folder; load the base and pass adapter={name!r}")
        return base
    beside = expanded(name).resolve().parent / "model"
    for found in (base, (_adapter_config(str(beside), None) or {}).get("base_model_name_or_path")):
        place = expanded(resolve_model(str(found)))
        if place.is_dir() and (place.is_absolute() or found == base):
            return str(place)
    if Path(base).is_absolute():
        raise UserError(
            f"{name}: an adapter of {base}, which is not there; load its base and pass adapter={name!r}"
        )
    return base


def _adapter_folder(adapter: str, revision: str | None) -> Path:
    """The adapter's files, its tokenizer's too, from its folder or the Hub."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError

    folder = expanded(adapter)
    files = ["adapter_*", "tokenizer*", "special_tokens_map.json", "chat_template*", "vocab*", "merges.txt"]
    try:
        if not folder.is_dir():
            folder = Path(snapshot_download(adapter, revision=revision, allow_patterns=files))
    except (OSError, ValueError, HfHubHTTPError) as e:
        raise UserError(f"{adapter}: the adapter cannot be fetched ({one_line(e)})") from e
    if not (folder / "adapter_model.safetensors").is_file():  # peft would fall back to a pickle
        raise UserError(f"{adapter}: an adapter without adapter_model.safetensors; save it as safetensors")
    return folder


def _check_ranks(adapter: str, folder: Path, config: dict[str, Any]) -> None:
    """Refuse ranks and layers that the weights lack: peft makes them before it looks."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(folder / "adapter_model.safetensors", framework="numpy") as weights:
            shapes = [weights.get_slice(key).get_shape() for key in weights.keys()]  # noqa: SIM118 no mapping
        asked = [config.get(key) for key in ("r", "init_r", "target_r", "num_virtual_tokens")]
        asked += (config.get("rank_pattern") or {}).values()
        layers = sum(end - start for start, end in config.get("layer_replication") or ())
    except (*_DAMAGE, SafetensorError) as e:
        raise UserError(f"{adapter}: the adapter does not fit its base ({one_line(e)})") from e
    widest = max((size for shape in shapes for size in shape), default=0)
    if any(isinstance(rank, int) and rank > widest for rank in asked) or layers > len(shapes):
        raise UserError(f"{adapter}: its adapter_config.json asks for ranks or layers that its weights lack")


def _with_adapter(lm: Any, adapter: str, folder: Path) -> Any:
    """The base model with the adapter's layers inside it, active and not merged."""
    from peft import PeftModel
    from safetensors import SafetensorError

    _check_ranks(adapter, folder, _adapter_config(str(folder), None) or {})
    try:
        wrapped = PeftModel.from_pretrained(lm, str(folder), is_trainable=False)
    except (*_DAMAGE, SafetensorError) as e:
        raise UserError(f"{adapter}: the adapter does not fit its base ({one_line(e)})") from e
    if wrapped.active_peft_config.is_prompt_learning:
        raise UserError(f"{adapter}: a prompt-learning adapter; only adapters of the weights can be traced")
    return wrapped.get_base_model()
